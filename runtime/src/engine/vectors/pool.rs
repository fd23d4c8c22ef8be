//! From the vectors of an input's tokens to the one of the input: pooled and brought to length one.

use super::Method;

/// The vectors of one input's tokens, in their order, on the way to one.
pub(super) struct Pool {
    method: Method,
    /// Doubles, so that the sum of a window of floats loses nothing that shows.
    sum: Vec<f64>,
    count: u32,
}

impl Pool {
    pub(super) fn new(method: Method, width: usize) -> Self {
        Self { method, sum: vec![0.0; width], count: 0 }
    }

    pub(super) fn add(&mut self, vector: &[f32]) {
        let numbers = vector.iter().map(|number| f64::from(*number));
        match self.method {
            Method::Mean => self.sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number),
            Method::First if self.count > 0 => {}
            Method::First | Method::Last => {
                self.sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = number);
            }
        }
        self.count += 1;
    }

    /// Of length one; `None` when there is a number that is none, or no direction at all. The length takes the
    /// count out of a mean.
    pub(super) fn finish(self) -> Option<Vec<f32>> {
        let length = self.sum.iter().map(|number| number * number).sum::<f64>().sqrt();
        if !length.is_finite() || length <= 0.0 {
            return None;
        }
        Some(self.sum.iter().map(|number| (number / length) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(method: Method, vectors: &[[f32; 2]]) -> Option<Vec<f32>> {
        let mut pool = Pool::new(method, 2);
        vectors.iter().for_each(|vector| pool.add(vector));
        pool.finish()
    }

    #[test]
    fn each_method_takes_what_it_says_and_the_length_is_one() {
        let vectors = [[3.0, 4.0], [0.0, 100.0], [5.0, 12.0]];
        assert_eq!(pooled(Method::First, &vectors).unwrap(), [0.6, 0.8]);
        assert_eq!(pooled(Method::Last, &vectors).unwrap(), [5.0 / 13.0, 12.0 / 13.0]);
        assert_eq!(pooled(Method::Mean, &[[1.0, 7.0], [5.0, 1.0]]).unwrap(), [0.6, 0.8]);
    }

    #[test]
    fn what_is_no_number_or_has_no_direction_is_no_vector() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for method in [Method::First, Method::Mean, Method::Last] {
                assert_eq!(pooled(method, &[[bad, 1.0]]), None, "{bad} {method:?}");
            }
        }
        assert_eq!(pooled(Method::Mean, &[[0.0, 0.0]]), None);
        assert_eq!(pooled(Method::Mean, &[[1.0, 0.0], [-1.0, 0.0]]), None);
        assert_eq!(pooled(Method::Mean, &[]), None);
        assert!(pooled(Method::Last, &[[f32::MAX, f32::MAX]]).is_some(), "large numbers are numbers");
    }
}
