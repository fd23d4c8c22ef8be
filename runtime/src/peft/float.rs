//! The three float types an adapter's weights come in, and the two they are written as.

/// The largest finite 16-bit float.
pub(super) const F16_MAX: f32 = 65504.0;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FloatType {
    F32,
    F16,
    BF16,
}

impl FloatType {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            _ => None,
        }
    }

    /// Bytes of one number.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Little-endian bytes as 32-bit floats; nothing is lost.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let (pairs, _) = bytes.as_chunks::<2>();
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect(),
            Self::F16 => pairs.iter().map(|number| f16_to_f32(u16::from_le_bytes(*number))).collect(),
            Self::BF16 => pairs
                .iter()
                .map(|number| f32::from_bits(u32::from(u16::from_le_bytes(*number)) << 16))
                .collect(),
        }
    }
}

/// IEEE 754 binary16 to binary32.
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        // Subnormal: the fraction counts in steps of 2^-24, which a 32-bit float holds exactly.
        0 => f32::from_bits((fraction as f32 * 2_f32.powi(-24)).to_bits() | sign),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// IEEE 754 binary32 to binary16, to the nearest, ties to even; what is too large becomes infinite.
pub(super) fn f32_to_f16(number: f32) -> u16 {
    let bits = number.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // Below 2^-14 the result is subnormal: adding 2^-1 * 2^-24 * 2^24 lets the addition round to steps of 2^-24.
    if magnitude < 0x3880_0000 {
        let rounded = f32::from_bits(magnitude) + 0.5;
        return sign | (rounded.to_bits() - 0.5_f32.to_bits()) as u16;
    }
    let even = (magnitude >> 13) & 1;
    let rounded = magnitude + 0xfff + even;
    if rounded >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_float_survives_the_way_there_and_back() {
        for bits in 0..=u16::MAX {
            let number = f16_to_f32(bits);
            if number.is_nan() {
                assert!(f16_to_f32(f32_to_f16(number)).is_nan());
            } else {
                assert_eq!(f32_to_f16(number), bits, "{number}");
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_to_even() {
        // Halfway between neighbours, a little below and a little above it.
        for bits in (0..0x7bff_u16).step_by(7) {
            let (low, high) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = low + (high - low) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(f32_to_f16(middle), even);
            assert_eq!(f32_to_f16(middle.next_down()), bits);
            assert_eq!(f32_to_f16(middle.next_up()), bits + 1);
            assert_eq!(f32_to_f16(-middle), even | 0x8000);
        }
        assert_eq!((f32_to_f16(F16_MAX), f32_to_f16(65_520.0)), (0x7bff, 0x7c00));
        assert_eq!((f32_to_f16(1e-10), f32_to_f16(f32::MAX)), (0, 0x7c00));
        assert_eq!((f16_to_f32(0x3c00), f16_to_f32(0x0001)), (1.0, 2_f32.powi(-24)));
    }
}
