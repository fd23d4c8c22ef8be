//! The header of a JSON web token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest header that is looked at, in bytes of base64url.
const MAX_HEADER: usize = 4096;

/// Whether `token`'s first part decodes to a JSON object that names an algorithm or a type (RFC 7515, 7516).
pub(crate) fn has_header(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    if header.len() > MAX_HEADER {
        return false;
    }
    let Ok(json) = URL_SAFE_NO_PAD.decode(header) else { return false };
    let Ok(json) = std::str::from_utf8(&json) else { return false };
    json.starts_with('{') && json.ends_with('}') && (json.contains("\"alg\"") || json.contains("\"typ\""))
}

#[cfg(test)]
mod tests {
    use super::has_header;

    #[test]
    fn only_a_decodable_header_that_names_an_algorithm_counts() {
        assert!(has_header("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x"));
        for text in ["eyJhIjoxfQ.e30.x", "eyJ!.e30", "eyJhbGciOiJ", ""] {
            assert!(!has_header(text), "{text}");
        }
    }
}
