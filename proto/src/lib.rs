//! The wire types of Synesis, compiled from the `.proto` files beside this crate, and the two things every
//! gRPC end of the project needs: [`Problem`], the one shape of an error on the wire, and [`channel`], gRPC
//! over a unix socket.

pub mod channel;
mod problem;
pub mod reason;

pub use problem::Problem;

/// `control.v1`: the local API, on the daemon's unix socket.
pub mod control {
    #[expect(missing_docs, unused_qualifications, reason = "generated; the comments are in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("synesis.control.v1");
    }
}

/// `mesh.v1`: the tunnel between device and gateway.
pub mod mesh {
    #[expect(missing_docs, reason = "generated; the comments are in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("synesis.mesh.v1");
    }
}

/// `runtime.v1`: daemon (or gateway) to model process.
pub mod runtime {
    #[expect(missing_docs, unused_qualifications, reason = "generated; the comments are in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("synesis.runtime.v1");
    }
}

/// `gateway.v1`: administration of a running gateway.
pub mod gateway {
    #[expect(missing_docs, unused_qualifications, reason = "generated; the comments are in the .proto files")]
    pub mod v1 {
        tonic::include_proto!("synesis.gateway.v1");
    }
}

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
