//! The types of sensitive values, with the names the command-line contract fixes for them.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What a redacted value is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $variant,)+
        }

        impl Kind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)+];

            /// The contract's name: `EMAIL`, `CREDIT_CARD`, ...
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$variant => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// An e-mail address.
    Email = "EMAIL",
    /// A telephone or fax number.
    Phone = "PHONE",
    /// A payment card number.
    CreditCard = "CREDIT_CARD",
    /// An international bank account number.
    Iban = "IBAN",
    /// A United States social security number.
    UsSsn = "US_SSN",
    /// A national identity, tax or health number.
    NationalId = "NATIONAL_ID",
    /// A passport number.
    Passport = "PASSPORT",
    /// A driving licence number.
    DriverLicense = "DRIVER_LICENSE",
    /// A domestic bank account or routing number.
    BankAccount = "BANK_ACCOUNT",
    /// A medical record number.
    MedicalRecord = "MEDICAL_RECORD",
    /// An IPv4 or IPv6 address.
    IpAddress = "IP_ADDRESS",
    /// A hardware address.
    MacAddress = "MAC_ADDRESS",
    /// User and password, or a token, inside a URL.
    UrlCredentials = "URL_CREDENTIALS",
    /// A database or broker connection string with a password.
    DbConnection = "DB_CONNECTION",
    /// A key of a known vendor.
    ApiKey = "API_KEY",
    /// An AWS access key id.
    AwsAccessKey = "AWS_ACCESS_KEY",
    /// An AWS secret access key.
    AwsSecretKey = "AWS_SECRET_KEY",
    /// A private key block.
    PrivateKey = "PRIVATE_KEY",
    /// A JSON web token.
    Jwt = "JWT",
    /// A password or pass phrase.
    Password = "PASSWORD",
    /// A secret of no known vendor.
    GenericSecret = "GENERIC_SECRET",
    /// The user name inside a home directory path.
    FilePathUser = "FILE_PATH_USER",
    /// A login name.
    Username = "USERNAME",
    /// A date of birth.
    DateOfBirth = "DATE_OF_BIRTH",
    /// A postal address.
    Address = "ADDRESS",
    /// A person's name.
    Person = "PERSON",
    /// A place.
    Location = "LOCATION",
    /// A pair of coordinates.
    Gps = "GPS",
    /// A vehicle registration plate.
    LicensePlate = "LICENSE_PLATE",
    /// The address of a cryptocurrency wallet.
    CryptoWallet = "CRYPTO_WALLET",
    /// A vehicle identification number.
    Vin = "VIN",
    /// The identity number of a mobile phone.
    Imei = "IMEI",
    /// What an operator defined, and text the user typed that looks like a placeholder.
    Custom = "CUSTOM",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
