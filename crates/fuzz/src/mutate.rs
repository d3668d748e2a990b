//! How are bytes bent at random, the same way for the same seed?

/// Numbers that decoders get wrong: the ends of the integer types and what lies beside them.
const INTERESTING: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// Longest input: beyond it mutations only repeat themselves.
const BYTES_MAX: usize = 4096;

/// A small generator of numbers (xorshift64*): its quality is of no matter, that it repeats is.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Zero is moved aside, because the generator would stay there.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 11) as usize % end.max(1)
    }
}

/// A new input made of one or two of `seeds`, or of noise.
pub fn input(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if seeds.is_empty() || random.below(16) == 0 {
        return (0..random.below(200)).map(|_| random.number() as u8).collect();
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        let other = &seeds[random.below(seeds.len())];
        bend(random, &mut bytes, other);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// One change; `other` is where foreign parts come from.
fn bend(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below(bytes.len() - at + 1);
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, random.number() as u8),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let from = random.below(other.len() + 1);
            bytes.splice(at..end, other[from..].iter().copied());
        }
        5 => put_number(random, &mut bytes[at..]),
        6 => bytes[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Writes an interesting number in one of the usual widths and orders.
fn put_number(random: &mut Random, bytes: &mut [u8]) {
    let number = INTERESTING[random.below(INTERESTING.len())];
    let width = [1, 2, 4, 8][random.below(4)].min(bytes.len());
    let number = match random.below(2) {
        0 => number.to_le_bytes()[..width].to_vec(),
        _ => number.to_be_bytes()[8 - width..].to_vec(),
    };
    bytes[..width].copy_from_slice(&number);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(seed: u64) -> Vec<Vec<u8>> {
        let mut random = Random::new(seed);
        (0..200).map(|_| input(&mut random, &[b"one seed".to_vec(), b"another".to_vec()])).collect()
    }

    #[test]
    fn a_seed_gives_the_same_inputs_twice_and_another_seed_others() {
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }

    #[test]
    fn inputs_are_bounded() {
        let long = vec![vec![1; 3000], vec![2; 3000]];
        let mut random = Random::new(1);
        assert!((0..500).all(|_| input(&mut random, &long).len() <= BYTES_MAX));
    }
}
