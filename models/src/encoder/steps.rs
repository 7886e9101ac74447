//! The steps between the products, written so that the compiler may compute sixteen numbers at once and still every processor computes
//! them in the same order.

use super::product::Out;
use crate::lanes::{Compute, Lanes, ROWS, exp, largest};

/// Layer norm of some tokens where they stand: mean 0 and variance 1, then a weight and a bias for each column.
pub(super) struct Norm<'a, 'b> {
    /// Sixteen columns of the tokens each.
    pub(super) groups: &'a mut [&'b mut [[f32; ROWS]]],
    pub(super) weights: &'a [[f32; ROWS]],
    pub(super) bias: &'a [[f32; ROWS]],
    pub(super) epsilon: f32,
}

impl Compute for Norm<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn on<L: Lanes>(mut self, lanes: L) {
        let (mut first, tokens) = (0, self.groups.first().map_or(0, |group| group.len()));
        while first < tokens {
            first += match tokens - first {
                8.. => self.tile::<L, 8>(lanes, first),
                4.. => self.tile::<L, 4>(lanes, first),
                _ => self.tile::<L, 1>(lanes, first),
            };
        }
    }
}

impl Norm<'_, '_> {
    /// Tokens that stand side by side, in the order in which they lie in memory.
    #[inline(always)]
    fn tile<L: Lanes, const SIZE: usize>(&mut self, lanes: L, first: usize) -> usize {
        let share = ((self.groups.len() * ROWS) as f32).recip();
        let mut parts = [[0.0; ROWS]; SIZE];
        for part in 0..ROWS / L::WIDTH {
            let mut sums = [lanes.splat(0.0); SIZE];
            for group in self.groups.iter() {
                for (sum, numbers) in sums.iter_mut().zip(&group[first..][..SIZE]) {
                    *sum = lanes.add(*sum, lanes.load(numbers, part));
                }
            }
            for (sum, to) in sums.into_iter().zip(&mut parts) {
                lanes.store(sum, to, part);
            }
        }
        let mut means = [0.0; SIZE];
        for (mean, sums) in means.iter_mut().zip(&parts) {
            *mean = total(sums) * share;
        }
        for part in 0..ROWS / L::WIDTH {
            let mut squares = [lanes.splat(0.0); SIZE];
            for group in self.groups.iter() {
                for ((squares, numbers), mean) in squares.iter_mut().zip(&group[first..][..SIZE]).zip(means) {
                    let off = lanes.add(lanes.load(numbers, part), lanes.splat(-mean));
                    *squares = lanes.fused(off, off, *squares);
                }
            }
            for (squares, to) in squares.into_iter().zip(&mut parts) {
                lanes.store(squares, to, part);
            }
        }
        let mut factors = [0.0; SIZE];
        for (factor, squares) in factors.iter_mut().zip(&parts) {
            *factor = (total(squares) * share + self.epsilon).sqrt().recip();
        }
        for part in 0..ROWS / L::WIDTH {
            for ((group, weights), bias) in self.groups.iter_mut().zip(self.weights).zip(self.bias) {
                let (weights, bias) = (lanes.load(weights, part), lanes.load(bias, part));
                for ((numbers, mean), factor) in group[first..][..SIZE].iter_mut().zip(means).zip(factors) {
                    let off = lanes.add(lanes.load(numbers, part), lanes.splat(-mean));
                    let normed = lanes.multiply(off, lanes.splat(factor));
                    lanes.store(lanes.fused(normed, weights, bias), numbers, part);
                }
            }
        }
        SIZE
    }
}

/// The sum of sixteen numbers, in four steps that a processor does side by side.
#[inline(always)]
pub(super) fn total(numbers: &[f32; ROWS]) -> f32 {
    let mut numbers = *numbers;
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            numbers[lane] += numbers[lane + width];
        }
    }
    numbers[0]
}

/// x times the share of the normal distribution below x, `x / 2 (1 + erf(x / sqrt 2))`, with the error function by formula 7.1.26 of
/// Abramowitz and Stegun, Handbook of Mathematical Functions: off by at most 1.5e-7.
#[inline(always)]
pub(super) fn gelu(numbers: &[f32; ROWS]) -> [f32; ROWS] {
    const TERMS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    let mut out = [0.0; ROWS];
    for lane in 0..ROWS {
        let x = numbers[lane];
        let size = x.abs();
        let t = 1.0 / (0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2).mul_add(size, 1.0);
        let mut sum = TERMS[0];
        for term in &TERMS[1..] {
            sum = sum.mul_add(t, *term);
        }
        let beyond = 0.5 * size * (sum * t) * exp(-0.5 * size * size);
        let positive = if x > 0.0 { x } else { 0.0 };
        out[lane] = positive - beyond;
    }
    out
}

/// Makes shares of fits, which stand side by side for each query: e to the power of how far each lies below the best, 0 for the places
/// after the last. Gives what each query's are to be divided by.
#[inline(always)]
pub(super) fn weigh<L: Lanes, const MOST: usize>(
    lanes: L,
    fits: &mut [[f32; ROWS]],
    queries: usize,
    places: usize,
) -> [f32; MOST] {
    for (block, fits) in fits.chunks_exact_mut(queries).enumerate().skip(places / ROWS) {
        for fits in fits {
            for (lane, fit) in fits.iter_mut().enumerate() {
                *fit = if block * ROWS + lane < places { *fit } else { f32::NEG_INFINITY };
            }
        }
    }
    let mut totals = [0.0; MOST];
    for (query, all) in totals.iter_mut().enumerate().take(queries) {
        let mut best = [f32::NEG_INFINITY; ROWS];
        for part in 0..ROWS / L::WIDTH {
            let mut most = lanes.splat(f32::NEG_INFINITY);
            for fits in fits.chunks_exact(queries) {
                most = lanes.larger(most, lanes.load(&fits[query], part));
            }
            lanes.store(most, &mut best, part);
        }
        let best = largest(best);
        for fits in fits.chunks_exact_mut(queries) {
            for fit in &mut fits[query] {
                *fit = exp(*fit - best);
            }
        }
        let mut sums = [0.0; ROWS];
        for part in 0..ROWS / L::WIDTH {
            let mut sum = lanes.splat(0.0);
            for fits in fits.chunks_exact(queries) {
                sum = lanes.add(sum, lanes.load(&fits[query], part));
            }
            lanes.store(sum, &mut sums, part);
        }
        *all = total(&sums);
    }
    totals
}

/// Divides what a tile of queries gave.
#[inline(always)]
pub(super) fn divide<L: Lanes>(lanes: L, out: &mut Out<'_>, by: &[f32]) {
    for ((low, high), by) in out.0.iter_mut().zip(out.1.iter_mut()).zip(by) {
        let share = lanes.splat(by.recip());
        for part in 0..ROWS / L::WIDTH {
            lanes.store(lanes.multiply(lanes.load(low, part), share), low, part);
            lanes.store(lanes.multiply(lanes.load(high, part), share), high, part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_that_of_the_normal_distribution() {
        // By numerical integration of the density from 0 to x, which is odd.
        let share = |x: f64| {
            let steps = 2000;
            let step = x / f64::from(steps);
            let density = |at: f64| (-0.5 * at * at).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let sum: f64 = (0..steps).map(|at| density((f64::from(at) + 0.5) * step)).sum();
            0.5 + sum * step
        };
        for step in -800..=800 {
            let x = f64::from(step) / 100.0;
            let found = f64::from(gelu(&[x as f32; ROWS])[3]);
            let right = x * share(x);
            assert!((found - right).abs() < 4e-7 * x.abs().max(1.0), "{x}: {found} {right}");
        }
        assert_eq!(gelu(&[-100.0; ROWS])[0], 0.0);
        assert_eq!(gelu(&[1e30; ROWS])[0], 1e30);
    }
}
