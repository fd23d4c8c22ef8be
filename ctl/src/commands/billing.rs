//! `billing`: what was charged, and the proof. Receipts are verified here, with keys pinned at enrolment, not by
//! the daemon that stores them.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use synesis_ledger::{BadReceipt, KeyRing, NanoUsd, Verification, verify_open_chain};
use synesis_proto::control::v1::{BalanceReply, BalanceRequest, ReceiptKeysRequest, ReceiptsRequest};

use crate::connect::{Context, Daemon};
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::receipt::{ReceiptJson, Stored};
use crate::view::{Style, View, present};

/// The commands below `billing`.
#[derive(Debug, Subcommand)]
pub(crate) enum BillingCommand {
    /// Show what the account owes and may still spend; asks the gateway
    Balance,
    /// List the receipts on this device, oldest first
    Receipts {
        /// Only the newest so many
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Check the signature of every receipt on this device and the chain they form
    Verify,
}

impl BillingCommand {
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Balance => super::QUICK,
            Self::Receipts { .. } => super::UNLIMITED,
            Self::Verify => super::SLOW,
        }
    }
}

pub(crate) async fn run(
    command: BillingCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let daemon = context.connect().await?;
    match command {
        BillingCommand::Balance => {
            let reply = daemon.billing().balance(BalanceRequest {}).await?.into_inner();
            output.print(&BalanceView::from(reply)).await
        }
        BillingCommand::Receipts { limit } => receipts(limit.unwrap_or_default(), &daemon, output).await,
        BillingCommand::Verify => verify(&daemon, output).await,
    }
}

/// Lists all there are, damaged ones too; those make the command fail at its end.
async fn receipts(limit: u32, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
    let mut rows = daemon.billing().receipts(ReceiptsRequest { limit, open: false }).await?.into_inner();
    let mut fault = None;
    while let Some(row) = output.next(&mut rows).await? {
        let receipt = match Stored::from(row) {
            Stored::Receipt(receipt) => ReceiptJson::from(*receipt),
            Stored::Open { .. } => continue,
            Stored::Fault(damaged) => {
                fault = fault.or(Some(Failure::ReceiptDamaged(damaged.fault)));
                continue;
            }
        };
        match output.format() {
            Format::Json => output.json([&receipt]).await?,
            Format::Human => output.text(&(line(&receipt) + "\n")).await?,
        }
        fault = fault.or(receipt.fault());
    }
    fault.map_or(Ok(()), Err)
}

/// One receipt on one line: number, amount, tokens, model, request.
fn line(receipt: &ReceiptJson) -> String {
    match receipt {
        ReceiptJson::Signed(signed) => {
            let receipt = &signed.receipt;
            let (net, request, model) = (receipt.net.to_string(), &receipt.request_id, &receipt.model);
            let tokens = format!("{} + {} tokens", receipt.input_tokens, receipt.output_tokens);
            format!("{:>6}  {net:>14}  {tokens:<20}  {model:<24}  {request}", receipt.seq)
        }
        ReceiptJson::Damaged(damaged) => format!("{:>6}  {damaged}", "?"),
        ReceiptJson::Pending(word) => (*word).to_owned(),
    }
}

async fn verify(daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
    let keys = key_ring(daemon).await?;
    let mut rows = daemon.billing().receipts(ReceiptsRequest { limit: 0, open: true }).await?.into_inner();
    let (mut receipts, mut open, mut faults) = (Vec::new(), BTreeMap::new(), Vec::new());
    while let Some(row) = rows.message().await? {
        match Stored::from(row) {
            Stored::Receipt(receipt) => receipts.push(*receipt),
            Stored::Open { device } => *open.entry(device).or_insert(0) += 1,
            Stored::Fault(damaged) => faults.push(damaged),
        }
    }
    let mut found = verify_open_chain(receipts, open, &keys);
    // The journal links receipts and all else: who changed another row could have taken receipts away.
    for damaged in faults {
        found.chain_ok = false;
        let bad = BadReceipt { seq: None, request_id: damaged.request_id, why: damaged.fault };
        found.first_bad.get_or_insert(bad);
    }
    let view = VerificationView { schema: "synesis.verification/1", found };
    output.print(&view).await?;
    match (view.found.holds(), &view.found.first_bad) {
        (true, _) => Ok(()),
        (false, Some(bad)) if bad.request_id.is_empty() => Err(Failure::Unverified(bad.why.clone())),
        (false, Some(bad)) => Err(Failure::Unverified(format!("request {}: {}", bad.request_id, bad.why))),
        (false, None) => Err(Failure::Unverified("the chain is broken".to_owned())),
    }
}

async fn key_ring(daemon: &Daemon) -> Result<KeyRing, Failure> {
    let reply = daemon.billing().receipt_keys(ReceiptKeysRequest {}).await?.into_inner();
    let mut ring = KeyRing::new();
    for key in reply.keys {
        let unusable = |why: &str| Failure::Protocol(format!("the receipt key {} {why}", key.key_id));
        let public = key.public_key.as_slice().try_into().map_err(|_| unusable("does not have 32 bytes"))?;
        ring.insert(public).map_err(|_| unusable("is no Ed25519 key"))?;
    }
    Ok(ring)
}

#[derive(Debug, Serialize)]
struct BalanceView {
    schema: &'static str,
    account: Option<String>,
    tier: String,
    unbilled_nanousd: NanoUsd,
    credits_nanousd: NanoUsd,
    held_nanousd: NanoUsd,
    ceiling_nanousd: Option<NanoUsd>,
    quota_left_nanousd: Option<NanoUsd>,
}

impl From<BalanceReply> for BalanceView {
    fn from(reply: BalanceReply) -> Self {
        Self {
            schema: "synesis.balance/1",
            account: present(reply.account),
            tier: reply.tier,
            unbilled_nanousd: NanoUsd::from_i64(reply.unbilled_nanousd),
            credits_nanousd: NanoUsd::from_i64(reply.credits_nanousd),
            held_nanousd: NanoUsd::from_i64(reply.held_nanousd),
            ceiling_nanousd: reply.ceiling_nanousd.map(NanoUsd::from_i64),
            quota_left_nanousd: reply.quota_left_nanousd.map(NanoUsd::from_i64),
        }
    }
}

impl View for BalanceView {
    fn human(&self, style: Style) -> String {
        let none = || "none".to_owned();
        let rows = [
            ("account", self.account.clone().unwrap_or_else(none)),
            ("tier", self.tier.clone()),
            ("unbilled", style.strong(&self.unbilled_nanousd.to_string())),
            ("held", self.held_nanousd.to_string()),
            ("credits", self.credits_nanousd.to_string()),
            ("ceiling", self.ceiling_nanousd.map_or_else(none, |amount| amount.to_string())),
            ("quota left", self.quota_left_nanousd.map_or_else(none, |amount| amount.to_string())),
        ];
        rows.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
    }
}

#[derive(Debug, Serialize)]
struct VerificationView {
    schema: &'static str,
    #[serde(flatten)]
    found: Verification,
}

impl View for VerificationView {
    fn human(&self, style: Style) -> String {
        let verdict = |holds| if holds { style.good("ok") } else { style.error("broken") };
        let chain = match self.found.pending {
            0 => verdict(self.found.chain_ok),
            1 => format!("{}, 1 receipt pending", verdict(self.found.chain_ok)),
            n => format!("{}, {n} receipts pending", verdict(self.found.chain_ok)),
        };
        format!(
            "receipts    {}\nsignatures  {}\nchain       {}\ntotal       {}",
            self.found.receipts,
            verdict(self.found.signatures_ok),
            chain,
            self.found.total,
        )
    }
}
