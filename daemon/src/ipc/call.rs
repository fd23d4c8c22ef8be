//! What a handler knows about the call it serves beside the message: its id and who makes it.

use tonic::Request;
use ulid::Ulid;

use super::{Caller, Role};

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Made for every call; in the log, in the header `x-request-id` of the response, and on receipts.
    pub id: Ulid,
    /// Who calls.
    pub caller: Caller,
}

impl Call {
    /// The call that `request` belongs to. Without one, which means that a service is used without its gate, the
    /// caller is nobody.
    pub fn of<T>(request: &Request<T>) -> Self {
        let nobody = Caller { uid: u32::MAX, gid: u32::MAX, pid: None, role: Role::Guest };
        request.extensions().get().copied().unwrap_or_else(|| Self { id: Ulid::generate(), caller: nobody })
    }
}
