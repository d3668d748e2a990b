//! How the checksum of two pieces follows from those of each: faster than the library's way, which rebuilds its tables
//! for each call and so takes longer than a small group's whole checksum.
//!
//! A CRC is the remainder of a polynomial over GF(2), and each further zero byte multiplies it by x^8. The bits of a
//! remainder are kept in reverse: the highest bit is the coefficient of x^0.

/// CRC-32C's polynomial, in reverse.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;
/// x^(2^n) for each n. They repeat from there on: CRC-32C's polynomial is x + 1 times a primitive one of degree 31, so
/// x^(2^31) is x again.
const POWERS: [u32; 31] = powers();

const fn powers() -> [u32; 31] {
    let mut powers = [ONE >> 1; 31];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
}

/// The product of two remainders.
const fn product(a: u32, mut b: u32) -> u32 {
    let (mut sum, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    sum
}

/// The CRC-32C of two pieces, of which the second is `second_bytes` long.
pub(crate) fn combine(first_crc: u32, second_crc: u32, second_bytes: u32) -> u32 {
    let bits = u64::from(second_bytes) * 8;
    let set = (0..64).filter(|n| bits >> n & 1 == 1);
    let shift = set.fold(ONE, |shift, n| product(POWERS[n % POWERS.len()], shift));
    product(shift, first_crc) ^ second_crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_checksums_combine_as_the_library_has_it(first: u32, second: u32, second_bytes: u32) {
            let expected = crc32c::crc32c_combine(first, second, second_bytes as usize);
            prop_assert_eq!(combine(first, second, second_bytes), expected);
        }

        #[test]
        fn two_checksums_combine_to_that_of_the_whole(bytes: Vec<u8>, at: prop::sample::Index) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let crc = combine(crc32c::crc32c(first), crc32c::crc32c(second), second.len() as u32);
            prop_assert_eq!(crc, crc32c::crc32c(&bytes));
        }
    }
}
