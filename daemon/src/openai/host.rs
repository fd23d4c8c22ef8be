//! Against DNS rebinding: a web page can make a browser send requests to 127.0.0.1 under a name of its own, and the
//! name is in the request. Only names that mean this machine pass.

use std::net::IpAddr;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// Whether the request is addressed to this machine, whatever the port.
pub(super) fn is_ours<B>(request: &Request<B>) -> bool {
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => {
            let mut hosts = request.headers().get_all(HOST).iter();
            let host = hosts.next().and_then(|host| Authority::try_from(host.as_bytes()).ok());
            // Two are an attempt to be read differently by two readers.
            host.filter(|_| hosts.next().is_none())
        }
    };
    host.is_some_and(|authority| !authority.as_str().contains('@') && is_loopback(authority.host()))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn names_of_this_machine_pass_and_no_others() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.8.9.1:1",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_ours(&request("/v1/models", &[host])), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.1",
            "0.0.0.0:8080",
            "[::]:8080",
            "localhost@evil.example",
            "evil.example@localhost",
            "a b",
        ] {
            assert!(!is_ours(&request("/v1/models", &[host])), "{host}");
        }
        assert!(!is_ours(&request("/v1/models", &[])));
        assert!(!is_ours(&request("/v1/models", &["localhost", "evil.example"])));
        assert!(!is_ours(&request("http://evil.example/v1/models", &["localhost"])));
        assert!(is_ours(&request("http://localhost:8080/v1/models", &["localhost:8080"])));
    }
}
