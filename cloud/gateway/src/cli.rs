//! The command line. Its shape is part of the contract: flags may be added, none changes its meaning.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use synesis_ledger::{NanoUsd, Tier};

use crate::duration;

/// Where the configuration is when nobody says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/synesis/gateway.toml";
/// The environment variable that names the admin socket.
pub(crate) const SOCKET_ENV: &str = "SYNESIS_GATEWAY_SOCKET";

/// The Synesis gateway: terminates the tunnel, calls model providers, keeps the ledger.
#[derive(Debug, Parser)]
#[command(name = "synesis-gateway", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground until SIGTERM or SIGINT.
    Serve {
        /// The configuration file; conf.d/*.toml beside it and SYNESIS_GATEWAY_* override it.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Make the certificate authorities, the keys and a commented configuration in a folder.
    Init(Init),
    /// Accounts of the running gateway.
    #[command(subcommand)]
    Account(Account),
    /// Enrolment tokens of the running gateway.
    #[command(subcommand)]
    Token(Token),
    /// Devices of the running gateway.
    #[command(subcommand)]
    Device(Device),
    /// Certificate authorities of the running gateway, and their rotation.
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to fill; made when it is missing. Files that exist are never overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The SPIFFE trust domain that device certificates carry.
    #[arg(long, value_name = "DOMAIN", default_value = crate::config::DEFAULT_TRUST_DOMAIN)]
    pub(crate) trust_domain: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Create an account.
    Create {
        /// The account's name: unique, 1 to 64 characters.
        name: String,
        /// What the account pays on top of the provider's price.
        #[arg(long, value_enum, default_value_t = TierName::Managed)]
        tier: TierName,
        /// The most the account may owe at any time, in US dollars (for example 20 or 0.50).
        #[arg(long, value_name = "USD", value_parser = usd)]
        ceiling: Option<NanoUsd>,
        /// What the free tier may use in one calendar month, in US dollars; without it, 1.
        #[arg(long, value_name = "USD", value_parser = usd)]
        quota: Option<NanoUsd>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Create an enrolment token and print it, alone, on stdout. It is shown once.
    Create {
        /// The account the enrolled device will belong to (name or id).
        #[arg(long, value_name = "NAME")]
        account: String,
        /// How long the token is good for: a number with s, m, h or d.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
        ttl: Duration,
        /// How many devices may enrol with it.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List every enrolled and revoked device.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a device; its live connection is closed at once.
    Revoke {
        /// The device's id, as `device list` shows it.
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// List the authorities, and how many devices depend on each.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Make a next CA beside the present one; both are trusted.
    Add {
        #[arg(value_enum)]
        kind: CaName,
        #[command(flatten)]
        target: Target,
    },
    /// Have the next CA issue from now on.
    Switch {
        #[arg(value_enum)]
        kind: CaName,
        #[command(flatten)]
        target: Target,
    },
    /// Trust the CA that does not issue no longer; refused while devices depend on it.
    Retire {
        #[arg(value_enum)]
        kind: CaName,
        /// Also while devices depend on it: they have to enrol again.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Which of the two authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaName {
    /// Signs devices; only the gateway knows it.
    Device,
    /// Signs the gateway; devices pin it.
    Server,
}

impl CaName {
    pub(crate) fn word(self) -> String {
        match self {
            Self::Device => "device".to_owned(),
            Self::Server => "server".to_owned(),
        }
    }
}

/// How an admin command finds the running gateway.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The gateway's admin socket; without it the configuration's `admin_socket` is used.
    #[arg(long, value_name = "PATH", env = SOCKET_ENV)]
    pub(crate) socket: Option<PathBuf>,
    /// The configuration to read `admin_socket` from.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
}

/// The tiers as the command line spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// No fee, and a monthly quota that refuses when it is used up.
    Free,
    /// The provider's price plus a fee.
    Managed,
    /// The customer's own provider key; a licence fee only.
    Byok,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Free => Self::Free,
            TierName::Managed => Self::Managed,
            TierName::Byok => Self::Byok,
        }
    }
}

fn usd(text: &str) -> Result<NanoUsd, String> {
    NanoUsd::parse_usd(text).map_err(|error| error.to_string())
}

/// The longest time to live of a token: a token is for enrolling now, not for keeping.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

fn ttl(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("a token needs at least one second to live".to_owned()),
        ttl if ttl > LONGEST_TTL => Err("a token may live for at most 30d".to_owned()),
        ttl => Ok(ttl),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_colliding_flags() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_ttl_is_a_whole_number_with_a_unit() {
        assert_eq!(ttl("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(ttl("30d"), Ok(LONGEST_TTL));
        for bad in ["", "h", "1", "1w", "-1h", "1.5h", "0s", "31d", "99999999999999999999d", "1 h", "ä"] {
            assert!(ttl(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn amounts_are_exact_and_never_negative() {
        assert_eq!(usd("0.000000001").map(NanoUsd::as_i64), Ok(1));
        assert_eq!(usd("20").map(NanoUsd::as_i64), Ok(20_000_000_000));
        for bad in ["-1", "1e3", "0.0000000001", "abc", ""] {
            assert!(usd(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn token_create_defaults_to_one_use_within_one_hour() {
        let cli = Cli::try_parse_from(["synesis-gateway", "token", "create", "--account", "acme"]).unwrap();
        let Command::Token(Token::Create { account, ttl, uses, .. }) = cli.command else {
            panic!("not a token command");
        };
        assert_eq!((account.as_str(), ttl, uses), ("acme", Duration::from_secs(3600), 1));
    }

    #[test]
    fn zero_uses_are_a_usage_error() {
        let line = ["synesis-gateway", "token", "create", "--account", "acme", "--uses", "0"];
        assert!(Cli::try_parse_from(line).is_err());
    }
}
