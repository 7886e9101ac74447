//! The exponential function, the same bits on every processor.

/// e to the x, to about one unit in the last place; 0 below -87, and no larger than e^88.
///
/// x = n ln 2 + r with a whole n; e^r by its series, 2^n by the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let limited = x.clamp(-87.0, 88.0);
    let shifted = limited.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 in two parts, the first with zeros at its end, so that the products are exact.
    let r = n.mul_add(-0.693_145_75, limited);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let series: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut sum = series[0];
    for term in &series[1..] {
        sum = sum.mul_add(r, *term);
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { sum * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        let mut worst = 0.0f64;
        for step in -870_000..880_000 {
            let x = step as f32 / 10_000.0;
            let (found, right) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max(((found - right) / right).abs());
        }
        assert!(worst < 3e-7, "{worst}");
        assert_eq!((exp(f32::NEG_INFINITY), exp(-88.0), exp(0.0)), (0.0, 0.0, 1.0));
        assert!(exp(f32::INFINITY).is_finite());
    }
}
