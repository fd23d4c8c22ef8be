//! Texts made to be slow. The work must grow with the text, not with its square: a quadratic rule would
//! take minutes for each of these where a linear one takes a fraction of a second.

use synesis_privacy::{Message, Policy, Vault};

const SIZE: usize = 100_000;

#[test]
fn a_long_row_of_anything_is_redacted_and_comes_back() {
    let policy = Policy::standard().unwrap();
    let units = [
        "1",
        "1.",
        "1-",
        "1 ",
        "12.",
        "0:",
        ":",
        "::",
        "a:",
        "@",
        "a@",
        "a@b.",
        "a@a.a",
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaaa.",
        "[",
        "[EMAIL_",
        "[EMAIL_1",
        "-",
        "-----BEGIN ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "://",
        "a://b:",
        "http://a:b/",
        "jdbc:",
        "password",
        "password ",
        "password:",
        "password=\"",
        "password=a;",
        "a=b;password=c;",
        "host=a password=bcde ",
        "secret is ",
        "sk-",
        "sk-a ",
        "xoxb-",
        "SG.",
        ":AA",
        "1:AA",
        "/home/",
        "\\Users\\",
        "wallet ",
        "1A",
        "passport no ",
        "dob ",
        "GB29",
        "AA00",
        "+",
        "+1",
        "(",
        "(1",
        "1°",
        "0x",
        "tel 1",
        "version 1.",
        "é",
        "日",
        "\u{0}",
        "\u{feff}",
        "'",
        "\"",
        "\\",
        "key=",
        "token a1",
        "\\n1",
        "%201",
        "%40",
        "a%40b.org",
        "&#64;",
        "a://b:1@",
        "http://a:b",
        "https://a/",
        "password:\n",
        "password: a'b",
        "password: a<b",
        "passphrase: ab cd ",
        "password: ab, cd: ",
        "{password: ab}",
        "| password | a1b2c3 ",
        "curl -u a:b ",
        "-u ",
        "name: password\nvalue: ",
        "[EMAIL\\_",
    ];
    for unit in units {
        let text = unit.repeat(SIZE / unit.len());
        let mut vault = Vault::with_seed(1);
        let sent = match policy.redact(&[Message::new("user", text.as_str())], &mut vault) {
            Ok(redacted) => redacted.messages()[0].content().to_owned(),
            Err(error) => panic!("{unit:?}: {error}"),
        };
        let mut restorer = vault.restorer();
        assert!(restorer.push(&sent) + &restorer.finish() == text, "{unit:?} does not come back");
    }
}
