//! The registry of machine-readable reasons on the local API ([`crate::Problem::reason`]). A reason is a promise
//! to scripts: it is never renamed, and a retired one is not used again. `synctl` derives its exit code from
//! these, so both sides read this file.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* pub const $name: &str = stringify!($name);)*

        /// Every reason, for documentation and tests.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

reasons! {
    /// The request carries no text.
    EMPTY_PROMPT;
    /// A field of the request has a value that makes no sense.
    BAD_REQUEST;
    /// Prompt (with history and template) and answer do not fit the model's context.
    PROMPT_TOO_LONG;
    /// Neither file nor daemon knows a model to load.
    NO_MODEL;
    /// The model is still loading, or restarting.
    MODEL_NOT_READY;
    /// The model process ended while it was answering.
    MODEL_CRASHED;
    /// The model file cannot be loaded.
    MODEL_INVALID;
    /// The local queue is full.
    BUSY;
    /// The model would not fit into the memory there is.
    MODEL_TOO_LARGE;
    /// No model of that name on this device.
    MODEL_NOT_FOUND;
    /// A model of that name, with other content, exists.
    MODEL_EXISTS;
    /// The active model cannot be removed.
    MODEL_IN_USE;
    /// The source of a pull cannot be reached, or does not have the file.
    SOURCE_FAILED;
    /// The bytes that came are not those that were announced.
    DIGEST_MISMATCH;
    /// The disk has no room for the file, or the store's limit is reached.
    DISK_FULL;
    /// The loaded model makes no embeddings.
    NO_EMBEDDINGS;
    /// The JSON schema or the grammar cannot be used.
    CONSTRAINT_INVALID;
    /// The request wants something that only a local answer, or only a cloud answer, can have.
    UNSUPPORTED;
    /// This device has no identity.
    NOT_ENROLLED;
    /// The gateway took this device's identity back.
    REVOKED;
    /// The gateway refused the enrolment token.
    TOKEN_REFUSED;
    /// The enrolment token is past its time.
    TOKEN_EXPIRED;
    /// The gateway's certificate does not chain to the given CA.
    GATEWAY_UNTRUSTED;
    /// This device already has an identity.
    ALREADY_ENROLLED;
    /// The tunnel is not up.
    OFFLINE;
    /// The gateway did not answer, or could not be reached.
    GATEWAY_UNREACHABLE;
    /// The tunnel was lost in the middle of an answer.
    INTERRUPTED;
    /// The device's own daily limit.
    DAILY_LIMIT;
    /// The account's ceiling.
    CEILING_REACHED;
    /// The account's quota for this period.
    QUOTA_EXHAUSTED;
    /// The privacy policy forbids sending this.
    PRIVACY_REFUSED;
    /// Sending needs the user's consent, which was not given.
    CONSENT_REQUIRED;
    /// The model provider behind the gateway failed.
    PROVIDER_FAILED;
    /// The gateway refused the request.
    GATEWAY_REFUSED;
    /// No adapter of that name.
    ADAPTER_NOT_FOUND;
    /// The file is no adapter, or not one for this model.
    ADAPTER_INVALID;
    /// An adapter of that name, with other content, exists.
    ADAPTER_EXISTS;
    /// The active adapter cannot be removed.
    ADAPTER_IN_USE;
    /// The account's adapters at the gateway take all the room they may.
    ADAPTER_QUOTA;
    /// Another swap came first.
    GENERATION_CHANGED;
    /// The caller's role may not do this.
    FORBIDDEN;
    /// Too many requests from this user.
    RATE_LIMITED;
    /// The durable store cannot take the record.
    STORE_FAILED;
    /// The service is stopping.
    STOPPING;
    /// A defect; the log has the details under the request id.
    INTERNAL;
}

#[cfg(test)]
mod tests {
    #[test]
    fn reasons_are_unique_and_upper_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in super::ALL {
            assert!(seen.insert(reason), "{reason} twice");
            assert!(reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
        }
    }
}
