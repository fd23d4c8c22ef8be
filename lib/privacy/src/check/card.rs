//! Payment cards: issuer ranges with their lengths, and Luhn.

use super::luhn;

/// First and last prefix of a range, all of one length, and the lengths of its numbers.
type Issuer = (u32, u32, &'static [usize]);

/// Public ranges of ISO/IEC 7812 issuers. Thirteen-digit Visa numbers are out of use, and look like an EAN.
const ISSUERS: &[Issuer] = &[
    (4, 4, &[16, 19]),                           // Visa
    (51, 55, &[16]),                             // Mastercard
    (2221, 2720, &[16]),                         // Mastercard
    (34, 34, &[15]),                             // American Express
    (37, 37, &[15]),                             // American Express
    (300, 305, &[14, 16]),                       // Diners Club
    (3095, 3095, &[14, 16]),                     // Diners Club
    (36, 36, &[14, 16]),                         // Diners Club
    (38, 39, &[14, 16]),                         // Diners Club
    (6011, 6011, &[16, 19]),                     // Discover
    (644, 659, &[16, 19]),                       // Discover
    (62, 62, &[16, 17, 18, 19]),                 // UnionPay
    (81, 81, &[16, 17, 18, 19]),                 // UnionPay
    (3528, 3589, &[16, 17, 18, 19]),             // JCB
    (2131, 2131, &[15]),                         // JCB
    (1800, 1800, &[15]),                         // JCB
    (50, 50, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (56, 58, &[12, 13, 14, 15, 16, 17, 18, 19]), // Maestro
    (6304, 6304, &[16, 17, 18, 19]),             // Maestro
    (6759, 6763, &[16, 17, 18, 19]),             // Maestro
    (2200, 2204, &[16, 17, 18, 19]),             // Mir
    (9792, 9792, &[16]),                         // Troy
    (60, 60, &[16]),                             // RuPay
    (508, 508, &[16]),                           // RuPay
];

/// Whether `digits` is a card number: a known issuer's range and length, and the check digit.
pub(crate) fn is_card(digits: &[u8]) -> bool {
    luhn(digits) && ISSUERS.iter().any(|issuer| in_range(digits, issuer))
}

fn in_range(digits: &[u8], &(first, last, lengths): &Issuer) -> bool {
    let width = first.ilog10() as usize + 1;
    lengths.contains(&digits.len())
        && digits.get(..width).is_some_and(|head| {
            let prefix = head.iter().fold(0, |n, b| n * 10 + u32::from(b.wrapping_sub(b'0')));
            (first..=last).contains(&prefix)
        })
}

#[cfg(test)]
mod tests {
    use super::is_card;

    #[test]
    fn test_numbers_of_each_network_are_cards() {
        for number in [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "30569309025904",
            "6011111111111117",
            "3530111333300000",
            "2223003122003222",
            "6200000000000005",
        ] {
            assert!(is_card(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn a_luhn_valid_number_of_no_issuer_or_of_a_wrong_length_is_none() {
        for number in ["9111111111111110", "411111111111116", "0000000000000000", "4", ""] {
            assert!(!is_card(number.as_bytes()), "{number}");
        }
    }
}
