//! Model names: which of them there are, and what each of them means.

use std::time::SystemTime;

use super::RequestError;
use crate::ask::Ask;
use crate::route::Mode;

/// The base model, in an [`Ask`].
const BASE: &str = "none";

/// The models that can be asked for by name, as of one moment.
#[derive(Debug, Clone)]
pub(in crate::openai) struct Names {
    /// What users call the local model; none: there is none.
    pub(in crate::openai) model: Option<String>,
    /// Its adapters and when they came.
    pub(in crate::openai) adapters: Vec<(String, SystemTime)>,
    /// Whether this device knows a gateway.
    pub(in crate::openai) cloud: bool,
    /// When the daemon started.
    pub(in crate::openai) since: SystemTime,
}

/// One model of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::openai) struct Entry {
    /// To ask for it.
    pub(in crate::openai) id: String,
    /// `synesis`: a way of routing; `device`: a model or an adapter.
    pub(in crate::openai) owned_by: &'static str,
    /// Since when it is there.
    pub(in crate::openai) created: SystemTime,
}

impl Names {
    /// Every model that may answer now. The ways of routing come first.
    pub(in crate::openai) fn list(&self) -> Vec<Entry> {
        let routing = |id: &str| Entry { id: id.to_owned(), owned_by: "synesis", created: self.since };
        let own = |id: &str, created| Entry { id: id.to_owned(), owned_by: "device", created };
        let mut list = vec![routing("synesis")];
        list.extend(self.model.iter().map(|_| routing("local")));
        list.extend(self.cloud.then(|| routing("cloud")));
        list.extend(self.model.iter().map(|model| own(model, self.since)));
        let named = self.adapters.iter().filter(|(name, _)| Some(name) != self.model.as_ref());
        list.extend(named.map(|(name, created)| own(name, *created)));
        list
    }

    /// `ask`, for the model of that name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn aim(&self, name: &str, ask: Ask) -> Result<Ask, RequestError> {
        let (mode, adapter) = match name {
            "synesis" | "auto" => (Mode::Unspecified, ""),
            "local" => (Mode::Local, ""),
            "cloud" => (Mode::Cloud, ""),
            _ if self.model.as_deref() == Some(name) => (Mode::Local, BASE),
            _ if self.adapters.iter().any(|(adapter, _)| adapter == name) => (Mode::Local, name),
            _ => return Err(RequestError::UnknownModel(name.to_owned())),
        };
        Ok(Ask { mode, adapter: adapter.to_owned(), ..ask })
    }
}

#[cfg(test)]
impl Names {
    /// A device with a model, an adapter and a gateway.
    pub(super) fn example() -> Self {
        Self {
            model: Some("smol".to_owned()),
            adapters: vec![
                ("pirate".to_owned(), SystemTime::UNIX_EPOCH),
                ("smol".to_owned(), SystemTime::UNIX_EPOCH),
            ],
            cloud: true,
            since: SystemTime::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_says_where_it_runs_and_with_which_adapter() {
        for (name, mode, adapter) in [
            ("synesis", Mode::Unspecified, ""),
            ("auto", Mode::Unspecified, ""),
            ("local", Mode::Local, ""),
            ("cloud", Mode::Cloud, ""),
            ("smol", Mode::Local, "none"),
            ("pirate", Mode::Local, "pirate"),
        ] {
            let ask = Names::example().aim(name, Ask::default()).unwrap();
            assert_eq!((ask.mode, ask.adapter.as_str()), (mode, adapter), "{name}");
        }
        for name in ["", "none", "gpt-4o", "Smol", "pirate "] {
            let refused = Names::example().aim(name, Ask::default()).unwrap_err();
            assert!(matches!(refused, RequestError::UnknownModel(unknown) if unknown == name));
        }
    }

    #[test]
    fn what_cannot_answer_is_not_in_the_list_and_nothing_is_twice() {
        let ids = |names: &Names| names.list().into_iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids(&Names::example()), ["synesis", "local", "cloud", "smol", "pirate"]);
        let bare = Names { model: None, adapters: Vec::new(), cloud: false, ..Names::example() };
        assert_eq!(ids(&bare), ["synesis"]);
    }
}
