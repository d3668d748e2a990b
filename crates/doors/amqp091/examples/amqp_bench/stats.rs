//! How are many latencies and a few rounds summed up?

/// Nanoseconds, as many as there were.
#[derive(Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    pub fn add(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// The value below which that share lies, in milliseconds.
    pub fn quantile_ms(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let at = ((self.0.len() - 1) as f64 * share) as usize;
        *self.0.select_nth_unstable(at).1 as f64 / 1e6
    }
}

/// The middle one; of two, the mean.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}
