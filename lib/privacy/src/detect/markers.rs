//! Values with a prefix of their own that are no vendor's key, and the literals that start a parser.

use super::finding::{Evidence, Finding};
use super::gate::Marker;
use super::prefixed::{Before, Spec};
use super::view::View;
use crate::check::{jwt, secrecy};
use crate::kind::Kind;

/// Literals with a parser of their own.
pub(crate) const LITERALS: &[(&str, Marker)] =
    &[("://", Marker::Scheme), ("jdbc:", Marker::Scheme), ("-----BEGIN", Marker::Key), (":AA", Marker::Bot)];

/// Accounts that images, runners and examples share; they name nobody.
const SHARED_ACCOUNTS: &[&str] = &[
    "runner",
    "ubuntu",
    "root",
    "user",
    "username",
    "users",
    "shared",
    "public",
    "default",
    "app",
    "node",
    "vscode",
    "git",
    "jenkins",
    "ec2-user",
    "admin",
    "administrator",
    "circleci",
    "travis",
    "debian",
    "vagrant",
    "pi",
    "guest",
    "nobody",
    "linuxbrew",
    "build",
    "builder",
    "work",
    "me",
    "name",
    "all",
    "jovyan",
    "coder",
    "gitpod",
    "azureuser",
    "containeradministrator",
    "codespace",
    "sandbox",
    "www-data",
    "www",
    "postgres",
    "your_name",
    "youruser",
];

/// Prefix rules beside the vendors'.
pub(crate) const SPECS: &[Spec] = &[
    Spec {
        kind: Kind::AwsAccessKey,
        literals: &["AKIA", "ASIA", "ABIA", "ACCA"],
        pattern: r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}(?-u:\b)",
        ..Spec::new("aws-access-key")
    },
    Spec {
        kind: Kind::Jwt,
        evidence: Evidence::Checksum,
        literals: &["eyJ"],
        pattern: r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{4,}(?:\.[0-9A-Za-z_-]*){0,3}",
        check: jwt::has_header,
        ..Spec::new("jwt")
    },
    Spec {
        kind: Kind::CryptoWallet,
        literals: &["bc1", "tb1", "ltc1", "addr1", "cosmos1"],
        pattern: r"(?:bc1|tb1|ltc1|addr1|cosmos1)[02-9ac-hj-np-z]{25,}(?-u:\b)",
        before: Before::Word,
        ..Spec::new("bech32-address")
    },
    Spec {
        kind: Kind::CryptoWallet,
        literals: &["0x"],
        pattern: r"0x[0-9A-Fa-f]{40}(?-u:\b)",
        before: Before::Word,
        ..Spec::new("ethereum-address")
    },
    Spec {
        kind: Kind::MedicalRecord,
        literals: &["MRN"],
        pattern: r"MRN[-#]?[0-9]{5,12}(?-u:\b)",
        ..Spec::new("medical-record-prefix")
    },
    Spec {
        kind: Kind::FilePathUser,
        literals: &["/home/", "/Users/", "/var/home/", "/export/home/", "/mnt/c/Users/"],
        pattern: r"(?:/var|/export|/mnt/c)?/(?:home|Users)/([0-9A-Za-z][0-9A-Za-z._-]{0,63})",
        before: Before::Word,
        check: is_personal_account,
        ..Spec::new("unix-home")
    },
    Spec {
        kind: Kind::FilePathUser,
        literals: &[r"\Users\", r"\\Users\\", r"\Documents and Settings\"],
        pattern: r"\\{1,2}(?i:Users|Documents and Settings)\\{1,2}([0-9A-Za-z][0-9A-Za-z._-]{0,63})",
        before: Before::Nothing,
        check: is_personal_account,
        ..Spec::new("windows-home")
    },
    Spec {
        kind: Kind::FilePathUser,
        literals: &[r"\Users\", r"\\Users\\"],
        pattern: r#"\\{1,2}(?i:Users)\\{1,2}([0-9A-Za-z][^\\/:*?"<>|\r\n]{0,63})\\"#,
        before: Before::Nothing,
        check: is_personal_account,
        ..Spec::new("windows-home-with-spaces")
    },
];

fn is_personal_account(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !SHARED_ACCOUNTS.contains(&name.as_str()) && !secrecy::is_stand_in(&name)
}

/// A Telegram bot token, `123456789:AA...`, around the colon at `colon`.
pub(super) fn telegram(view: &View<'_>, colon: usize) -> Option<Finding> {
    let start = view.run_back(colon, 13, |b| b.is_ascii_digit());
    let end = view.run(colon + 1, 512, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    ((6..=12).contains(&(colon - start)) && end - colon > 30).then_some(Finding {
        start,
        end,
        kind: Kind::ApiKey,
        rule: "telegram-bot-token",
        evidence: Evidence::Shape,
    })
}
