//! `serve`: runs the gateway until SIGTERM or SIGINT.

use std::path::Path;

use synesis_supervise::Shutdown;

use crate::failure::{Exit, Failure};
use crate::{app, config, log};

pub(crate) fn run(file: &Path) -> Result<(), Failure> {
    let bad = |error: config::ConfigError| {
        Failure::new(Exit::Config, crate::failure::chain(&error), error.next_step())
    };
    let config = config::load(file).map_err(bad)?;
    log::start(&config.log).map_err(bad)?;
    let unable =
        |error| Failure::new(Exit::Failed, format!("the gateway cannot start: {error}"), "try again");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(unable)?;
    runtime.block_on(async {
        // Before anything is opened, so that an early SIGTERM stops in good order too.
        let mut shutdown = Shutdown::listen().map_err(unable)?;
        let bound = app::bind(&config).await?;
        tracing::info!(
            listen = %bound.address(),
            public_url = config.public_url,
            admin_socket = %config.admin_socket.display(),
            version = env!("CARGO_PKG_VERSION"),
            "starting"
        );
        // The same listener waits for both: another one would hear the first signal twice.
        let (first, stopping) = tokio::sync::oneshot::channel();
        let stop = async move {
            let signal = shutdown.requested().await;
            tracing::info!(%signal, "stopping");
            // Only a gateway that is gone already does not listen.
            let _ = first.send(shutdown);
        };
        let now = async move {
            match stopping.await {
                Ok(mut again) => drop(again.requested().await),
                Err(_) => std::future::pending().await,
            }
        };
        bound.run(stop, now).await
    })
}
