//! How an account pays, and the rates that go with it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How an account pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is charged; the list cost counts against a quota.
    Free,
    /// The list cost plus a fee.
    Managed,
    /// Bring your own key: the provider bills the customer, we charge a licence fee on the list cost.
    Byok,
}

/// Not the name of a tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown tier {0:?}; the tiers are free, managed and byok")]
pub struct UnknownTier(String);

impl Tier {
    /// The name on the wire and in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Managed => "managed",
            Self::Byok => "byok",
        }
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "free" => Ok(Self::Free),
            "managed" => Ok(Self::Managed),
            "byok" => Ok(Self::Byok),
            _ => Err(UnknownTier(name.to_owned())),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The rates of the tiers, in parts per million of the list cost. Configuration, with the published defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Added to the cost on [`Tier::Managed`]; 30,000 is 3 %.
    pub managed_fee_ppm: u32,
    /// The licence fee on [`Tier::Byok`]; 300,000 is 30 %.
    pub byok_fee_ppm: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { managed_fee_ppm: 30_000, byok_fee_ppm: 300_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_refused() {
        for tier in [Tier::Free, Tier::Managed, Tier::Byok] {
            assert_eq!(tier.to_string().parse(), Ok(tier));
            assert_eq!(serde_json::to_value(tier).unwrap(), tier.as_str());
        }
        let error = "Managed".parse::<Tier>().unwrap_err();
        assert_eq!(error.to_string(), "unknown tier \"Managed\"; the tiers are free, managed and byok");
    }
}
