//! HTTP CONNECT: asks a proxy for a way to the gateway. Its answer is bounded and read to its last byte and no further:
//! what follows belongs to the gateway.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Bytes in the head of an answer.
const MAX_HEAD: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_CREDENTIALS: u64 = 4 * 1024;

/// Why a proxy gave no way through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the file {path} with the proxy's credentials could not be read: {error}", path = .0.display(), error = .1)]
    Credentials(PathBuf, #[source] io::Error),
    #[error("the file {path} holds no user:password", path = .0.display())]
    NoCredentials(PathBuf),
    #[error("the proxy wants a user name and a password (407)")]
    Unauthenticated,
    #[error("the proxy did not accept the user name and password (407)")]
    BadCredentials,
    #[error("the proxy does not allow a connection to {0} (403)")]
    Forbidden(String),
    #[error("the proxy could not connect to {0} ({1})")]
    Unreachable(String, u16),
    #[error("the proxy refused with status {0}")]
    Status(u16),
    #[error("the proxy's answer is not HTTP")]
    NotHttp,
    #[error("the head of the proxy's answer is over {MAX_HEAD} bytes")]
    TooLarge,
    #[error("the connection to the proxy failed: {0}")]
    Io(#[from] io::Error),
}

impl ProxyError {
    pub(super) fn next_step(&self) -> String {
        match self {
            Self::Credentials(..) | Self::NoCredentials(_) | Self::BadCredentials => {
                "check the file named in gateway.proxy_credentials_file: one line, user:password".into()
            }
            Self::Unauthenticated => "set gateway.proxy_credentials_file to a file with user:password".into(),
            Self::Forbidden(target) => format!("have the proxy's administrator allow CONNECT to {target}"),
            Self::Unreachable(target, _) => {
                format!("check that the gateway listens on TCP {target} and that the proxy can reach it")
            }
            Self::Status(_) | Self::NotHttp | Self::TooLarge | Self::Io(_) => {
                "check gateway.proxy: it has to be an HTTP proxy that allows CONNECT".into()
            }
        }
    }
}

/// What `Proxy-Authorization` says, from the file with `user:password`.
pub(super) async fn credentials(file: &Path) -> Result<Zeroizing<String>, ProxyError> {
    let unreadable = |error| ProxyError::Credentials(file.to_owned(), error);
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let mut text = Zeroizing::new(String::new());
    opened.take(MAX_CREDENTIALS).read_to_string(&mut text).await.map_err(unreadable)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if !line.contains(':') {
        return Err(ProxyError::NoCredentials(file.to_owned()));
    }
    Ok(Zeroizing::new(format!("Basic {}", STANDARD.encode(line))))
}

/// Asks for `target` (`host:port`). After that, `stream` is a connection to it.
pub(super) async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
    authorization: Option<&str>,
) -> Result<(), ProxyError> {
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(authorization) = authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let status = answer(stream).await?;
    match status {
        200..=299 => Ok(()),
        407 if authorization.is_some() => Err(ProxyError::BadCredentials),
        407 => Err(ProxyError::Unauthenticated),
        403 => Err(ProxyError::Forbidden(target.to_owned())),
        502..=504 => Err(ProxyError::Unreachable(target.to_owned(), status)),
        other => Err(ProxyError::Status(other)),
    }
}

/// Reads a head, byte by byte: there is one in the life of a connection.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, ProxyError> {
    let mut head = Vec::new();
    loop {
        head.push(stream.read_u8().await?);
        if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
            break;
        }
        if head.len() >= MAX_HEAD {
            return Err(ProxyError::TooLarge);
        }
        // What cannot become an answer any more is not waited for.
        if head.len() == 5 && head != b"HTTP/" {
            return Err(ProxyError::NotHttp);
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(&head) {
        Ok(httparse::Status::Complete(_)) => response.code.ok_or(ProxyError::NotHttp),
        Ok(httparse::Status::Partial) | Err(_) => Err(ProxyError::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// What a device makes of a proxy that answers with these bytes, and what it asked.
    async fn asked(answer: &[u8], authorization: Option<&str>) -> (Result<(), ProxyError>, String, Vec<u8>) {
        let (mut near, mut far) = duplex(64 * 1024);
        let answered = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(far.read_u8().await.unwrap());
            }
            far.write_all(answer).await.unwrap();
            drop(far);
            String::from_utf8(request).unwrap()
        };
        let ask = async {
            let result = connect(&mut near, "gateway.example.com:443", authorization).await;
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            (result, rest)
        };
        let ((result, rest), request) = tokio::join!(ask, answered);
        (result, request, rest)
    }

    async fn refusal(answer: &[u8]) -> ProxyError {
        asked(answer, None).await.0.unwrap_err()
    }

    #[tokio::test]
    async fn what_follows_the_answer_belongs_to_the_gateway() {
        let (result, request, rest) =
            asked(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n\x16\x03", None).await;
        result.unwrap();
        assert_eq!(rest, b"\x16\x03");
        assert_eq!(
            request,
            "CONNECT gateway.example.com:443 HTTP/1.1\r\nHost: gateway.example.com:443\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn credentials_travel_in_a_header() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy");
        std::fs::write(&file, "aladdin:opensesame\n").unwrap();
        let basic = credentials(&file).await.unwrap();
        let (result, request, _) = asked(b"HTTP/1.0 200 OK\r\n\r\n", Some(&basic)).await;
        result.unwrap();
        assert!(request.contains("\r\nProxy-Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_file_without_credentials_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy");
        assert!(matches!(credentials(&file).await, Err(ProxyError::Credentials(..))));
        std::fs::write(&file, "nothing\n").unwrap();
        assert!(matches!(credentials(&file).await, Err(ProxyError::NoCredentials(path)) if path == file));
    }

    #[tokio::test]
    async fn each_refusal_has_its_name() {
        let closed = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
        assert!(matches!(refusal(closed).await, ProxyError::Unauthenticated));
        assert!(matches!(asked(closed, Some("Basic eA==")).await.0, Err(ProxyError::BadCredentials)));
        assert!(matches!(refusal(b"HTTP/1.1 403 Forbidden\r\n\r\n").await, ProxyError::Forbidden(_)));
        assert!(matches!(
            refusal(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await,
            ProxyError::Unreachable(_, 502)
        ));
        assert!(matches!(refusal(b"HTTP/1.1 301 Moved\r\n\r\n").await, ProxyError::Status(301)));
    }

    #[tokio::test]
    async fn garbage_and_endless_heads_are_refused() {
        assert!(matches!(refusal(b"SSH-2.0-OpenSSH_9.2\r\n").await, ProxyError::NotHttp));
        assert!(matches!(refusal(b"HTTP/1.1 abc\r\n\r\n").await, ProxyError::NotHttp));
        assert!(matches!(refusal(b"HTTP/1.1 200 OK\r\nx: y").await, ProxyError::Io(_)));
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 2 * MAX_HEAD]].concat();
        assert!(matches!(refusal(&endless).await, ProxyError::TooLarge));
        let many = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(100), b"\r\n".to_vec()].concat();
        assert!(matches!(refusal(&many).await, ProxyError::NotHttp));
    }
}
