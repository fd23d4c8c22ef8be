//! What is found and what is left alone, in other words than those of the labelled corpus.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use synesis_privacy::{Kind, Policy};

/// The kinds and texts found in `text`.
fn found(policy: &Policy, text: &str) -> Vec<(Kind, String)> {
    let preview = policy.preview(text).unwrap();
    preview.spans.iter().map(|span| (span.kind, text[span.start..span.end].to_owned())).collect()
}

fn assert_found(cases: &[(Kind, &str, &str)]) {
    let policy = Policy::standard().unwrap();
    for (kind, text, value) in cases {
        let found = found(&policy, text);
        assert!(found.contains(&(*kind, (*value).to_owned())), "{kind} in {text:?}: {found:?}");
    }
}

fn assert_untouched(texts: &[&str]) {
    let policy = Policy::standard().unwrap();
    for text in texts {
        let found = found(&policy, text);
        assert!(found.is_empty(), "{text:?}: {found:?}");
    }
}

#[test]
fn mail_addresses_are_found_in_their_surroundings() {
    assert_found(&[
        (Kind::Email, "mailto:o'neil+news@mail.example.co.uk?subject=x", "o'neil+news@mail.example.co.uk"),
        (Kind::Email, "Ask (jürgen@müller.de).", "jürgen@müller.de"),
        (Kind::Email, "連絡先はtaro@example.jpです", "taro@example.jp"),
        (Kind::Email, "<a_b-c@example.org>,x", "a_b-c@example.org"),
        (Kind::Email, "ends here: z@example.com. Next", "z@example.com"),
    ]);
    assert_untouched(&[
        "git clone git@github.com:a/b.git",
        "logo@2x.png",
        "@Override",
        "a @ b",
        "npm i x@1.2.3",
        "me@localhost",
    ]);
}

#[test]
fn phone_numbers_are_found_by_country_code_grouping_or_announcement() {
    assert_found(&[
        (Kind::Phone, "+49 (0)30 901820", "+49 (0)30 901820"),
        (Kind::Phone, "(415) 555-2671 ext. 42!", "(415) 555-2671 ext. 42"),
        (Kind::Phone, "415.555.2671", "415.555.2671"),
        (Kind::Phone, "0044 20 7946 0958", "0044 20 7946 0958"),
        (Kind::Phone, "01 42 68 53 00", "01 42 68 53 00"),
        (Kind::Phone, "My mobile: 5551234567", "5551234567"),
        (Kind::Phone, "携帯090-1234-5678", "090-1234-5678"),
    ]);
    assert_untouched(&[
        "9876543210",
        "1722104602123",
        "2024-05-17 10:11:12",
        "17/05/2024",
        "id 4155552671",
        "1.234.567",
        "x=0123456789",
        "order 030 123456",
        "0xdeadbeef 123-456-7890-1234",
        "v2.0.1-rc.12",
    ]);
}

#[test]
fn cards_and_accounts_need_their_checksums() {
    assert_found(&[
        (Kind::CreditCard, "4111 1111 1111 1111", "4111 1111 1111 1111"),
        (Kind::CreditCard, "3782-822463-10005", "3782-822463-10005"),
        (Kind::CreditCard, "{\"cc\":5555555555554444}", "5555555555554444"),
        (Kind::Iban, "GB29 NWBK 6016 1331 9268 19", "GB29 NWBK 6016 1331 9268 19"),
        (Kind::Iban, "de89370400440532013000", "de89370400440532013000"),
    ]);
    assert_untouched(&[
        "4111 1111 1111 1112",
        "GB29 NWBK 6016 1331 9268 18",
        "order 4111111111111111",
        "ISBN 9783161484100",
    ]);
}

#[test]
fn network_addresses_are_told_from_versions_and_from_code() {
    assert_found(&[
        (Kind::IpAddress, "10.1.2.3:8080", "10.1.2.3"),
        (Kind::IpAddress, "from 203.0.113.7.", "203.0.113.7"),
        (Kind::IpAddress, "[2001:db8::8a2e:370:7334]:443", "2001:db8::8a2e:370:7334"),
        (Kind::IpAddress, "fe80::1ff:fe23:4567:890a%eth0", "fe80::1ff:fe23:4567:890a"),
        (Kind::MacAddress, "00:1A:2b:3c:4D:5e", "00:1A:2b:3c:4D:5e"),
        (Kind::MacAddress, "ab-cd-ef-12-34-56", "ab-cd-ef-12-34-56"),
        (Kind::MacAddress, "001a.2b3c.4d5e", "001a.2b3c.4d5e"),
    ]);
    assert_untouched(&[
        "std::vec::Vec::<u8>::new()",
        "a::b",
        "use ab1::cd2::Ef;",
        "dead::beef",
        "version 1.2.3.4",
        "v1.2.3.4",
        "pkg==1.2.3.4",
        "127.0.0.1",
        "::1",
        "0.0.0.0/0",
        "256.1.1.1",
        "1.2.3.4.5",
        "12:34:56",
        "ff:ff:ff:ff:ff:ff",
        "1.2.3.4-beta",
        "a:b:c:d:e:f",
    ]);
}

#[test]
fn credentials_in_urls_are_hidden_and_the_host_stays_readable() {
    let policy = Policy::standard().unwrap();
    let text = "curl https://bob:s3cr/et@git.example.org/x.git";
    let preview = policy.preview(text).unwrap();
    assert!(preview.text.starts_with("curl https://[URL_CREDENTIALS_"), "{}", preview.text);
    assert!(preview.text.ends_with("]@git.example.org/x.git"), "{}", preview.text);
    assert_found(&[
        (
            Kind::DbConnection,
            "see postgres://app:pa@ss@db.internal/x?ssl=1.",
            "postgres://app:pa@ss@db.internal/x?ssl=1",
        ),
        (
            Kind::DbConnection,
            "jdbc:mysql://h:3306/d?user=u&password=hunter2",
            "jdbc:mysql://h:3306/d?user=u&password=hunter2",
        ),
        (
            Kind::DbConnection,
            "\"Server=db;Database=x;User Id=sa;Password=Str0ng;\"",
            "Server=db;Database=x;User Id=sa;Password=Str0ng",
        ),
        (
            Kind::DbConnection,
            "use host=h port=1 user=u password=hunter2 now",
            "host=h port=1 user=u password=hunter2",
        ),
    ]);
    assert_untouched(&[
        "https://example.org:8080/a?b=c@d",
        "redis://cache:6379/0",
        "postgres://$USER:$PASS@host/db",
        "http://${U}:${P}@h",
    ]);
}

#[test]
fn keys_of_more_than_forty_vendors_are_found() {
    let hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let any = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6a7B8c9D0e1F2";
    let caps = any.to_uppercase();
    let keys = [
        format!("sk-proj-{any}"),
        format!("sk-{any}"),
        format!("sk-ant-api03-{any}"),
        format!("sk-or-v1-{hex}"),
        format!("ghp_{}", &any[..36]),
        format!("gho_{}", &any[..36]),
        format!("ghs_{}", &any[..36]),
        format!("github_pat_{any}"),
        format!("glpat-{}", &any[..20]),
        format!("xoxb-{}", &any[..40]),
        format!("xapp-1-{}", &any[..40]),
        format!("sk_live_{}", &any[..24]),
        format!("rk_live_{}", &any[..24]),
        format!("whsec_{}", &any[..32]),
        format!("AIza{}", &any[..35]),
        format!("GOCSPX-{}", &any[..28]),
        format!("SG.{}.{}", &any[..22], &any[..43]),
        format!("SK{}", &hex[..32]),
        format!("AC{}", &hex[..32]),
        format!("npm_{}", &any[..36]),
        format!("pypi-AgEI{any}"),
        format!("rubygems_{}", &hex[..48]),
        format!("hf_{}", &any[..34]),
        format!("dop_v1_{hex}"),
        format!("shpat_{}", &hex[..32]),
        format!("key-{}", &hex[..32]),
        format!("dapi{}", &hex[..32]),
        format!("sq0atp-{}", &any[..22]),
        format!("lin_api_{}", &any[..40]),
        format!("ntn_{}", &any[..46]),
        format!("secret_{}", &any[..43]),
        format!("dp.pt.{}", &any[..43]),
        format!("hvs.{}", &any[..40]),
        format!("AGE-SECRET-KEY-1{}", &caps[..58]),
        format!("HRKU-{}", &any[..36]),
        format!("glsa_{}", &any[..32]),
        format!("NRAK-{}", &caps[..27]),
        format!("sntrys_{any}"),
        format!("PMAK-{}-{}", &hex[..24], &hex[..34]),
        format!("pul-{}", &hex[..40]),
        format!("figd_{}", &any[..40]),
        format!("gsk_{}", &any[..52]),
        format!("pplx-{}", &any[..48]),
        format!("dckr_pat_{}", &any[..27]),
        format!("r8_{}", &any[..37]),
        format!("tskey-auth-{}", &any[..30]),
        format!("7123456789:AA{}", &any[..33]),
        format!("https://discord.com/api/webhooks/12345678901234567/{any}"),
        format!("https://hooks.slack.com/services/T0000000/B0000000/{}", &any[..24]),
    ];
    assert!(keys.len() > 40);
    let policy = Policy::standard().unwrap();
    for key in &keys {
        for text in [format!("it was {key}, sorry"), format!("X={key}"), format!("{{\"x\":\"{key}\"}}")] {
            assert!(
                found(&policy, &text).contains(&(Kind::ApiKey, key.clone())),
                "{text}: {:?}",
                found(&policy, &text)
            );
        }
        assert!(!policy.preview(key).unwrap().text.contains(key), "{key}");
    }
}

#[test]
fn other_keys_and_tokens_are_found() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzQ4x1TESTz";
    assert_found(&[
        (Kind::AwsAccessKey, "id AKIAIOSFODNN7ABCDEFG.", "AKIAIOSFODNN7ABCDEFG"),
        (Kind::AwsSecretKey, &format!("aws_secret_access_key = {secret}"), secret),
        (
            Kind::Jwt,
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        ),
        (Kind::GenericSecret, "--auth-token 9f8e7d6c5b4a39281706", "9f8e7d6c5b4a39281706"),
        (Kind::GenericSecret, "Authorization: Basic dXNlcjpwYXNzd29yZDE=", "dXNlcjpwYXNzd29yZDE="),
        (
            Kind::CryptoWallet,
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0x52908400098527886E0F7030069857D2E4169EE7",
        ),
    ]);
    assert_untouched(&[
        "eyJ",
        "eyJub3QiOiJoZWFkZXIifQ.eyJ4IjoxfQ.x",
        "secret = load_secret()",
        "token_count = 123456789012",
        "let token = tokens.next();",
        "api_key: os.environ['KEY']",
        "commit 9f8e7d6c5b4a392817069f8e7d6c5b4a39281706",
        "5e3a711f-586f-4d30-8876-9e3a711f586f",
        "disk-encryption-setup-guide-2024",
    ]);
}

#[test]
fn private_key_blocks_are_hidden_whole_and_cut_off() {
    let body = "MIIEowIBAAKCAQEAx7Qm1u2rC8d5y9aJ0b1c2d3e4f5g6h7i8j9k0l1m2n3o4p5q\nq3Zt9AbC12==";
    let whole = format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----");
    let escaped = whole.replace('\n', "\\n");
    let cut = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}");
    let policy = Policy::standard().unwrap();
    for (text, rest) in [
        (format!("k:\n{whole}\nthanks"), "\nthanks"),
        (format!("\"{escaped}\""), "\""),
        (format!("{cut}\nWhy is it refused?"), "\nWhy is it refused?"),
    ] {
        let preview = policy.preview(&text).unwrap();
        assert_eq!(preview.spans.len(), 1, "{}", preview.text);
        assert_eq!(preview.spans[0].kind, Kind::PrivateKey);
        assert!(preview.text.ends_with(&format!("]{rest}")), "{}", preview.text);
    }
    assert_untouched(&[
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
        "-----BEGIN",
    ]);
}

#[test]
fn passwords_are_found_however_they_are_assigned() {
    assert_found(&[
        (Kind::Password, "password: hunter2", "hunter2"),
        (Kind::Password, "{\"passwd\": \"a b c\"}", "a b c"),
        (Kind::Password, "\\\"password\\\":\\\"x;y\\\"", "x;y"),
        (Kind::Password, "export MYSQL_PWD='it\\'s'", "it\\'s"),
        (Kind::Password, "mysql --password=letmein -u x", "letmein"),
        (Kind::Password, "--passphrase 'open sesame'", "open sesame"),
        (Kind::Password, "<password>tr0ub</password>", "tr0ub"),
        (Kind::Password, "login?user=a&pwd=qw3rty&x=1", "qw3rty"),
        (Kind::Password, "Das Kennwort lautet Sommer2020!", "Sommer2020!"),
        (Kind::Password, "DB_PASS=hunter2", "hunter2"),
        (Kind::Password, "DB_PASSWORD=blue_monkey", "blue_monkey"),
        (Kind::Password, "[db]\npassword = letmein\nport = 1", "letmein"),
        (Kind::Password, "user: x\npassword: Sunshine\n", "Sunshine"),
        (Kind::Password, "psk=\"correct horse\"", "correct horse"),
    ]);
    assert_untouched(&[
        "password: ********",
        "password = os.getenv(\"PW\")",
        "PASSWORD=${PASSWORD}",
        "the password is required",
        "reset my password please",
        "password: string;",
        "if password == other",
        "passenger: Smith9",
        "bypass=true1x",
        "self.password = args.password",
    ]);
}

#[test]
fn source_code_about_secrets_is_left_alone() {
    assert_untouched(&[
        "pub password: windows_sys::core::PSTR,",
        "fn login(user: &str, password: &str) -> Option<Token>",
        "let password = match read() { Ok(p) => p };",
        "return Err(Token::new(super::super::Foundation::HANDLE))",
        "const PASSWORD_EXPIRY: c_ulong = 8;",
        "let token: KeyCredentialManagerOperationErrorStates = 4;",
        "auth = NDIS_802_11_AUTHENTICATION_MODE",
        "user: c_int, account: user_id, ssh windows_core",
        "hex!(\"30 03 02 01 00\")",
        "const VRING_CALL: u32 = 1074310945;",
        "[4404404959645932768, 4218664174878121437]",
        "/// -----BEGIN PRIVATE KEY-----\n/// ```",
        "pub log_passwd: __u32,",
        "type CHANGE_PASSWORD_FN = Option<unsafe extern \"system\" fn(*const core::ffi::c_void) -> HRESULT>;",
        "eprintln!(\"could not set password: {err:?}\");",
        "Some(password) => (password.len(), password.as_ptr()),",
        "case(\"2009-03-29 01Z\", \"-009999-12-01\")",
    ]);
}

#[test]
fn labelled_numbers_paths_and_places_are_found() {
    assert_found(&[
        (Kind::FilePathUser, "cat /home/jdoe/.ssh/config", "jdoe"),
        (Kind::FilePathUser, "C:\\Users\\Jane Doe\\Desktop", "Jane Doe"),
        (Kind::FilePathUser, "\"C:\\\\Users\\\\jane\\\\x\"", "jane"),
        (Kind::FilePathUser, "/Users/jane", "jane"),
        (Kind::UsSsn, "536-90-4399", "536-90-4399"),
        (Kind::UsSsn, "social security no. 536904399", "536904399"),
        (Kind::DateOfBirth, "Birthday: 3rd of May 1988", "3rd of May 1988"),
        (Kind::DateOfBirth, "born on 1988-05-03", "1988-05-03"),
        (Kind::Gps, "at 52.520008, 13.404954 today", "52.520008, 13.404954"),
        (Kind::Gps, "48°51'24\"N 2°21'03\"E", "48°51'24\"N 2°21'03\"E"),
        (Kind::Passport, "Passport: C01X00T47", "C01X00T47"),
        (Kind::NationalId, "CPF 529.982.247-25", "529.982.247-25"),
    ]);
    assert_untouched(&[
        "/home/runner/work",
        "/home/ubuntu/x",
        "GET /users/123",
        "https://x.org/home/index.html",
        "666-12-3456",
        "000-12-3456",
        "plot(52.520008, 13.404954)",
        "[52.520008, 13.404954, 7.5]",
        "released on 1988-05-03",
    ]);
}

#[test]
fn spans_are_byte_offsets_and_name_their_rule() {
    let policy = Policy::standard().unwrap();
    let text = "Grüße an äöü@example.org";
    let preview = policy.preview(text).unwrap();
    let [span] = &preview.spans[..] else { panic!("{:?}", preview.spans) };
    assert_eq!(&text[span.start..span.end], "äöü@example.org");
    assert_eq!(span.rule, "email");
    assert_eq!(preview.text, format!("Grüße an {}", span.placeholder));
}

#[test]
fn an_escape_in_front_of_a_value_does_not_hide_it() {
    let token = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let log = format!("{{\"log\":\"cfg\\n{token}\\n4111111111111111\\n10.3.4.5\\n\"}}");
    assert_found(&[
        (Kind::ApiKey, &log, token),
        (Kind::CreditCard, &log, "4111111111111111"),
        (Kind::IpAddress, &log, "10.3.4.5"),
        (Kind::FilePathUser, "cd\\n/home/anna/x", "anna"),
        (Kind::ApiKey, &format!("token%3D{token}"), token),
        (Kind::ApiKey, &format!("a\\u003d{token}"), token),
        (Kind::IpAddress, "host%2010.3.4.5", "10.3.4.5"),
        (Kind::IpAddress, "x\\u002010.3.4.5", "10.3.4.5"),
        (Kind::MacAddress, "x\\t00:1A:2b:3c:4D:5e", "00:1A:2b:3c:4D:5e"),
        (Kind::Iban, "x\\r\\nDE89370400440532013000", "DE89370400440532013000"),
        (Kind::Phone, "x\\n+49 30 901820", "+49 30 901820"),
        (Kind::Email, "x\\nann@example.org", "ann@example.org"),
        (Kind::Password, "x\\npass=hunter22", "hunter22"),
        (Kind::DbConnection, "x\\npostgres://app:hunter22@db/x", "postgres://app:hunter22@db/x"),
        (Kind::DateOfBirth, "x\\nDOB: 1988-05-03", "1988-05-03"),
    ]);
    assert_untouched(&["C:\\new\\table\\r2.10", "%d10.3.4", "xn10.3.4.5"]);
}

#[test]
fn passwords_are_found_behind_their_label_in_common_layouts() {
    assert_found(&[
        (Kind::Password, "Password:\n  hunter22\n", "hunter22"),
        (Kind::Password, "password: |\n  hunter22\n", "hunter22"),
        (Kind::Password, "{\"name\":\"DB_PASSWORD\",\"value\":\"hunter22\"}", "hunter22"),
        (Kind::Password, "- name: DB_PASSWORD\n  value: hunter22\n", "hunter22"),
        (Kind::Password, "<add key=\"Password\" value=\"hunter22\"/>", "hunter22"),
        (Kind::Password, "| password | hunter22 |", "hunter22"),
        (Kind::Password, "password: swordfish.", "swordfish"),
        (Kind::Password, "(password: swordfish)", "swordfish"),
        (Kind::Password, "{user: a, password: sunshine}", "sunshine"),
        (Kind::Password, "password: sunshine, host: db1", "sunshine"),
        (Kind::Password, "password: sunshine # prod", "sunshine"),
        (Kind::Password, "password: sunshine  \nx", "sunshine"),
        (Kind::Password, "password: admin", "admin"),
        (Kind::Password, "password: abc12", "abc12"),
        (Kind::Password, "password: 1234", "1234"),
        (Kind::Password, "db_password=blue_monkey", "blue_monkey"),
        (Kind::Password, "db:\n  db_password: blue_monkey\n", "blue_monkey"),
        (Kind::Password, "user=a password=blue_monkey x=1", "blue_monkey"),
        (Kind::Password, "export db_password=blue_monkey\n", "blue_monkey"),
    ]);
    assert_untouched(&[
        "password: String,",
        "password: None",
        "password: null",
        "password: true",
        "password: str",
        "password = new_password;",
        "connect(password=db_password)",
        "connect(db_password=user_entry, x=1)",
        "let user = User { name, password: hashed };",
        "fn login(password: Secret, host: Host)",
        "| password | string | required |",
        "password:\n    min: 8",
        "password_max_age: 3600",
        "Password:\n- at least eight characters",
    ]);
}

#[test]
fn real_passwords_are_not_taken_for_stand_ins() {
    assert_found(&[
        (Kind::Password, "\"password\": \"My_Dog_Rex_2019!\"", "My_Dog_Rex_2019!"),
        (Kind::Password, "password: Winter(2024)!", "Winter(2024)!"),
        (Kind::Password, "password=Environment#24", "Environment#24"),
        (Kind::Password, "password=11111111", "11111111"),
        (Kind::Password, "PASSWORD=XK_92_QP", "XK_92_QP"),
    ]);
    assert_untouched(&[
        "\"password\": \"my_password\"",
        "\"password\": \"YOUR_PASSWORD_HERE\"",
        "password = read(2024)",
        "password = os.environ.get('X')",
        "password=xxxxxxxx",
    ]);
}

#[test]
fn values_are_hidden_to_their_end() {
    assert_found(&[
        (Kind::Password, "password=O'Brien2024!", "O'Brien2024!"),
        (Kind::Password, "password='O'Brien2024!'", "O'Brien2024!"),
        (Kind::Password, "PASSWORD=Pa55<word!", "Pa55<word!"),
        (Kind::Password, "WIFI_PASSPHRASE=correct horse battery staple", "correct horse battery staple"),
        (Kind::Password, "passphrase: correct horse battery staple\nx", "correct horse battery staple"),
        (Kind::Password, "password: \"open sesame 7\nnext", "open sesame 7"),
    ]);
    assert_untouched(&["passphrase: the words that you chose", "println!(\"password: \", user.id2)"]);
}

#[test]
fn every_url_of_a_token_is_looked_at() {
    assert_found(&[
        (
            Kind::UrlCredentials,
            "https://ghproxy.com/https://oauth2:s3cretpw@gitlab.com/x.git",
            "oauth2:s3cretpw",
        ),
        (Kind::UrlCredentials, "https://x.org/?target=https://u:p4ssw0rd@h/", "u:p4ssw0rd"),
        (Kind::UrlCredentials, "https://a.example,https://u:p4ss@b", "u:p4ss"),
        (Kind::UrlCredentials, "https://a:b1@c,https://u:p4ss@b", "u:p4ss"),
    ]);
}

#[test]
fn encoded_mail_addresses_are_found() {
    assert_found(&[
        (Kind::Email, "?to=ann%40example.org&x", "ann%40example.org"),
        (Kind::Email, "ann&#64;example.org", "ann&#64;example.org"),
        (Kind::Email, "ann&#x40;example.org", "ann&#x40;example.org"),
        (Kind::Email, "ann\\u0040example.org", "ann\\u0040example.org"),
    ]);
    assert_untouched(&["/%40types%2Fnode", "react%4018.2.0"]);
}

#[test]
fn basic_credentials_are_found() {
    assert_found(&[
        (Kind::GenericSecret, "Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        (Kind::GenericSecret, "{\"Authorization\":\"Basic dXNlcjpwYXNz\"}", "dXNlcjpwYXNz"),
        (Kind::Password, "curl -u admin:hunter22 https://x.org", "hunter22"),
        (Kind::Password, "curl -s --user 'admin:open sesame' https://x.org", "open sesame"),
    ]);
    assert_untouched(&["docker run -u 1000:1000 x", "auth: Basic authentication", "curl -u $USER:$PASS x"]);
}
