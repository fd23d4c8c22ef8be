//! Keys and tokens of vendors, by the prefixes and lengths the vendors document. Lengths have no upper bound: a
//! longer key than expected is hidden to its end.

use super::prefixed::Spec;

macro_rules! vendors {
    ($($rule:literal: $($literal:literal)|+ => $pattern:literal,)+) => {
        /// One rule a vendor or token type.
        pub(crate) const SPECS: &[Spec] = &[
            $(Spec { literals: &[$($literal),+], pattern: $pattern, ..Spec::new($rule) },)+
        ];
    };
}

vendors! {
    "openai-key": "sk-" => r"sk-(?:(?:proj|svcacct|admin|None)-[0-9A-Za-z_-]{20,}|[0-9A-Za-z]{20,})",
    "anthropic-key": "sk-ant-" => r"sk-ant-[0-9A-Za-z_-]{20,}",
    "openrouter-key": "sk-or-" => r"sk-or-(?:v1-)?[0-9A-Za-z_-]{20,}",
    "github-token": "ghp_" | "gho_" | "ghu_" | "ghs_" | "ghr_" => r"gh[pousr]_[0-9A-Za-z]{30,}",
    "github-fine-grained-token": "github_pat_" => r"github_pat_[0-9A-Za-z_]{22,}",
    "gitlab-token": "glpat-" | "gldt-" | "glrt-" | "glptt-" | "glcbt-" | "glsoat-" | "glagent-" | "gloas-" | "glft-" | "glimt-"
        => r"gl(?:pat|dt|rt|ptt|cbt|soat|agent|oas|ft|imt)-[0-9A-Za-z_.-]{18,}",
    "slack-token": "xoxb-" | "xoxp-" | "xoxa-" | "xoxr-" | "xoxs-" | "xoxe-" | "xoxo-" | "xoxc-" | "xoxd-" | "xapp-" | "xoxe."
        => r"(?:xox[abcdeoprs]|xapp)[-.][0-9A-Za-z%./+-]{10,}",
    "slack-webhook": "https://hooks.slack.com/" | "hooks.slack.com/" => r"(?:https://)?hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z/_-]{20,}",
    "discord-webhook": "https://discord.com/api/webhooks/" | "https://discordapp.com/api/webhooks/" | "discord.com/api/webhooks/"
        => r"(?:https://)?discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/[0-9A-Za-z_-]{40,}",
    "teams-webhook": "webhook.office.com/" => r"webhook\.office\.com/webhookb2/[0-9A-Za-z@/_-]{40,}",
    "stripe-key": "sk_live_" | "sk_test_" | "rk_live_" | "rk_test_" | "whsec_"
        => r"(?:(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{10,}|whsec_[0-9A-Za-z+/=]{24,})",
    "google-key": "AIza" => r"AIza[0-9A-Za-z_-]{30,}",
    "google-oauth": "GOCSPX-" | "ya29." => r"(?:GOCSPX-[0-9A-Za-z_-]{20,}|ya29\.[0-9A-Za-z_.-]{20,})",
    "sendgrid-key": "SG." => r"SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}",
    "twilio-id": "SK" | "AC" => r"(?:SK|AC)[0-9a-f]{32}(?-u:\b)",
    "npm-token": "npm_" => r"npm_[0-9A-Za-z]{30,}",
    "pypi-token": "pypi-" => r"pypi-[0-9A-Za-z_-]{30,}",
    "rubygems-key": "rubygems_" => r"rubygems_[0-9a-f]{40,}",
    "crates-io-token": "cio" => r"cio[0-9A-Za-z]{32}(?-u:\b)",
    "hugging-face-token": "hf_" | "api_org_" => r"(?:hf|api_org)_[0-9A-Za-z]{30,}",
    "digitalocean-token": "dop_v1_" | "doo_v1_" | "dor_v1_" => r"do[opr]_v1_[0-9a-f]{40,}",
    "shopify-token": "shpat_" | "shpca_" | "shppa_" | "shpss_" => r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{30,}",
    "mailgun-key": "key-" => r"key-[0-9a-f]{32}(?-u:\b)",
    "databricks-token": "dapi" => r"dapi[0-9a-f]{32}(?:-[0-9])?",
    "square-token": "sq0atp-" | "sq0csp-" | "sq0idp-" | "EAAA" => r"(?:sq0(?:atp|csp|idp)-[0-9A-Za-z_-]{20,}|EAAA[0-9A-Za-z_-]{56,})",
    "linear-key": "lin_api_" | "lin_oauth_" => r"lin_(?:api|oauth)_[0-9A-Za-z]{32,}",
    "notion-token": "ntn_" | "secret_" => r"(?:ntn_[0-9A-Za-z]{40,}|secret_[0-9A-Za-z]{43,})",
    "doppler-token": "dp.pt." | "dp.st." | "dp.ct." | "dp.sa." | "dp.scim." | "dp.audit."
        => r"dp\.(?:pt|st|ct|sa|scim|audit)\.[0-9A-Za-z._-]{30,}",
    "vault-token": "hvs." | "hvb." | "hvr." => r"hv[sbr]\.[0-9A-Za-z_-]{20,}",
    "age-key": "AGE-SECRET-KEY-1" => r"AGE-SECRET-KEY-1[0-9A-Z]{50,}",
    "cloudflare-ca-key": "v1.0-" => r"v1\.0-[0-9a-f]{24}-[0-9a-f]{140,}",
    "heroku-key": "HRKU-" => r"HRKU-[0-9A-Za-z_-]{30,}",
    "grafana-token": "glsa_" | "glc_" => r"(?:glsa_[0-9A-Za-z]{30,}(?:_[0-9a-f]{8})?|glc_[0-9A-Za-z+/=]{32,})",
    "new-relic-key": "NRAK-" | "NRJS-" | "NRII-" => r"NR(?:AK|JS|II)-[0-9A-Za-z-]{19,}",
    "sentry-token": "sntrys_" | "sntryu_" => r"sntry[su]_[0-9A-Za-z+/=_]{40,}",
    "postman-key": "PMAK-" => r"PMAK-[0-9a-f]{24}-[0-9a-f]{30,}",
    "pulumi-token": "pul-" => r"pul-[0-9a-f]{40}",
    "figma-token": "figd_" => r"figd_[0-9A-Za-z_-]{36,}",
    "planetscale-token": "pscale_" => r"pscale_(?:tkn|pw|oauth)_[0-9A-Za-z._=-]{30,}",
    "supabase-key": "sbp_" | "sb_secret_" => r"(?:sbp_[0-9a-f]{40}|sb_secret_[0-9A-Za-z_-]{20,})",
    "replicate-token": "r8_" => r"r8_[0-9A-Za-z]{35,}",
    "groq-key": "gsk_" => r"gsk_[0-9A-Za-z]{40,}",
    "perplexity-key": "pplx-" => r"pplx-[0-9A-Za-z]{40,}",
    "docker-token": "dckr_pat_" | "dckr_oat_" => r"dckr_[po]at_[0-9A-Za-z_-]{24,}",
    "atlassian-token": "ATATT3x" | "ATCTT3x" => r"AT[AC]TT3x[0-9A-Za-z_=-]{50,}",
    "airtable-token": "pat" => r"pat[0-9A-Za-z]{14}\.[0-9a-f]{60,}",
    "artifactory-key": "AKCp" | "cmVmdGtu" => r"(?:AKCp[0-9A-Za-z]{60,}|cmVmdGtu[0-9A-Za-z]{50,})",
    "easypost-key": "EZAK" | "EZTK" => r"EZ[AT]K[0-9A-Za-z]{54}",
    "facebook-token": "EAAC" | "EAAG" | "EAAB" => r"EAA[BCG][0-9A-Za-z]{60,}",
    "tailscale-key": "tskey-" => r"tskey-[0-9A-Za-z-]{20,}",
    "fly-token": "fo1_" | "FlyV1 " => r"(?:fo1_[0-9A-Za-z_-]{40,}|FlyV1 [0-9A-Za-z_+/=,-]{60,})",
    "launchdarkly-key": "sdk-" | "api-" | "mob-" => r"(?:sdk|api|mob)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    "contentful-token": "CFPAT-" => r"CFPAT-[0-9A-Za-z_-]{40,}",
    "onepassword-token": "ops_eyJ" => r"ops_eyJ[0-9A-Za-z+/=_-]{60,}",
}
