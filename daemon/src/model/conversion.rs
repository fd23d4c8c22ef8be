//! The calls that adapters need beside loading: a PEFT adapter turned into a GGUF file by the model process, whose
//! bytes come back as a stream because that process can write nowhere; and the warming of a prefix.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use synesis_proto::runtime::v1::convert_adapter_event::Event;
use synesis_proto::runtime::v1::{
    ConvertAdapterEvent, ConvertAdapterRequest, ConvertedAdapter, WarmReply, WarmRequest,
};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Streaming;

use super::handle::{LOADING, QUICK, text};
use super::link::Link;
use super::{ModelError, ModelHandle};

/// Most time for warming one prefix: it is an optimisation, and a long one is given up.
const WARMING: Duration = Duration::from_secs(20);

/// The bytes of a converted adapter, in order. Dropping it cancels the conversion.
pub struct Conversion {
    events: Streaming<ConvertAdapterEvent>,
    link: Link,
    _call: TaskTrackerToken,
}

impl Conversion {
    /// The next piece of the file; `None` at its end.
    ///
    /// # Errors
    /// The model process refused in the middle, ended, or took too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ModelError> {
        match self.event(QUICK).await? {
            Some(Event::Data(data)) => Ok(Some(data.into())),
            Some(Event::Adapter(_)) => Err(ModelError::Protocol("a conversion that begins twice".to_owned())),
            None => Ok(None),
        }
    }

    async fn event(&mut self, limit: Duration) -> Result<Option<Event>, ModelError> {
        loop {
            let message = tokio::select! {
                biased;
                message = timeout(limit, self.events.message()) => message.map_err(|_| ModelError::TimedOut)?,
                () = self.link.gone.cancelled() => return Err(self.link.lost()),
            };
            match message.map_err(|status| self.link.refusal(&status))? {
                // An event of a newer protocol.
                Some(ConvertAdapterEvent { event: None }) => {}
                Some(ConvertAdapterEvent { event }) => return Ok(event),
                None => return Ok(None),
            }
        }
    }
}

impl std::fmt::Debug for Conversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversion").finish_non_exhaustive()
    }
}

impl ModelHandle {
    /// Has a PEFT adapter (its `adapter_config.json` and `adapter_model.safetensors`) turned into a GGUF adapter for
    /// the loaded model: what it is, then the bytes of the file.
    ///
    /// # Errors
    /// `ADAPTER_INVALID` when it cannot be converted or was made for another model.
    pub async fn convert_adapter(
        &self,
        config: &Path,
        weights: &Path,
    ) -> Result<(ConvertedAdapter, Conversion), ModelError> {
        let request = ConvertAdapterRequest { config_path: text(config)?, weights_path: text(weights)? };
        let (link, call) = self.link().await?;
        let mut client = link.client.clone();
        let events = tokio::select! {
            biased;
            response = timeout(LOADING, client.convert_adapter(request)) => response
                .map_err(|_| ModelError::TimedOut)?
                .map_err(|status| link.refusal(&status))?
                .into_inner(),
            () = link.gone.cancelled() => return Err(link.lost()),
        };
        let mut conversion = Conversion { events, link, _call: call };
        match conversion.event(LOADING).await? {
            Some(Event::Adapter(adapter)) => Ok((adapter, conversion)),
            _ => Err(ModelError::Protocol("a conversion that does not say what it made".to_owned())),
        }
    }

    /// Has the keys and values of an input computed and kept, for requests that begin like it.
    ///
    /// # Errors
    /// The model is not there, or cannot read the input, or its adapter is not loaded.
    pub async fn warm(&self, request: WarmRequest) -> Result<WarmReply, ModelError> {
        self.call(WARMING, async |mut client| client.warm(request).await).await
    }
}
