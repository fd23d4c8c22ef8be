//! `init`: makes a folder that `serve` can run from. It refuses to touch anything that exists.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use synesis_mesh::identity::TrustDomain;

use super::print;
use crate::cli::Init;
use crate::failure::{Exit, Failure, chain};
use crate::pki::{self, PkiError, SERVER_CA};

const CONFIG_FILE: &str = "gateway.toml";
const PKI_FOLDER: &str = "pki";
/// The commented configuration; `{trust_domain}` is filled in.
const TEMPLATE: &str = include_str!("gateway.toml");

pub(crate) fn run(init: &Init) -> Result<(), Failure> {
    let trust_domain: TrustDomain = init.trust_domain.parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("--trust-domain: {error}"), "use a name such as edge.example.com")
    })?;
    let (config, pki) = (init.dir.join(CONFIG_FILE), init.dir.join(PKI_FOLDER));
    for path in [&config, &pki] {
        if path.exists() {
            return Err(failed(&PkiError::Exists(path.clone())));
        }
    }
    make_folder(&init.dir)?;
    pki::make(&pki, &trust_domain).map_err(|error| failed(&error))?;
    let text = TEMPLATE.replace("{trust_domain}", trust_domain.as_str());
    pki::write_new(&config, 0o600, &text).map_err(|error| failed(&error))?;
    print(&format!(
        "made {} and the keys in {}\n\
         devices pin {}; keep everything else in that folder secret, and back it up\n\
         next step: name a provider and its prices in {}, then run\n  synesis-gateway serve --config {}",
        config.display(),
        pki.display(),
        pki.join(SERVER_CA).display(),
        config.display(),
        config.display(),
    ))
}

fn make_folder(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("{} cannot be made: {error}", dir.display()),
            "name a folder you may write",
        )
    })
}

fn failed(error: &PkiError) -> Failure {
    Failure::new(Exit::Failed, chain(error), error.next_step())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(dir: &Path) -> Init {
        Init { dir: dir.to_path_buf(), trust_domain: "test.internal".to_owned() }
    }

    #[test]
    fn a_fresh_folder_holds_a_configuration_that_loads() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new/gateway");
        run(&init(&dir)).unwrap();
        let config = crate::config::load(&dir.join(CONFIG_FILE)).unwrap();
        assert_eq!(config.trust_domain, "test.internal");
        assert_eq!(config.pki_dir, dir.join(PKI_FOLDER));
        pki::load(&config.pki_dir, &config.trust_domain).unwrap();
    }

    #[test]
    fn the_examples_in_the_configuration_are_valid_when_uncommented() {
        let folder = tempfile::tempdir().unwrap();
        // Prose lines start with "# " and a capital letter or more text; examples with "#" and no space.
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, uncommented.replace("{trust_domain}", "test.internal")).unwrap();
        let config = crate::config::load(&file).unwrap();
        assert_eq!(config.providers.len(), 3);
        assert_eq!(config.prices.len(), 3);
    }

    #[test]
    fn a_second_init_refuses_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        run(&init(folder.path())).unwrap();
        let config = folder.path().join(CONFIG_FILE);
        std::fs::write(&config, "# mine").unwrap();
        let failure = run(&init(folder.path())).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.what.contains("exists already"), "{failure}");
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "# mine");
    }

    #[test]
    fn a_bad_trust_domain_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let bad = Init { dir: folder.path().to_path_buf(), trust_domain: "Not OK".to_owned() };
        assert_eq!(run(&bad).unwrap_err().exit, Exit::Usage);
    }
}
