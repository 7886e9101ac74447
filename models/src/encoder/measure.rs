//! What a core can do, to print beside what an encoder did.

use std::time::Instant;

use crate::lanes::{Compute, Lanes, Processor, ROWS};

/// Products and sums that wait for no memory: as many at once as keep every unit busy.
struct Peak {
    rounds: usize,
}

const AT_ONCE: usize = 12;

impl Compute for Peak {
    type Output = (usize, f32);

    #[inline(always)]
    fn on<L: Lanes>(self, lanes: L) -> (usize, f32) {
        let (near, little) = (lanes.splat(0.999), lanes.splat(0.001));
        let mut sums = [lanes.splat(0.0); AT_ONCE];
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = lanes.splat(at as f32);
        }
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = lanes.fused(*sum, near, little);
            }
        }
        let mut all = [0.0; ROWS];
        let mut left = 0.0;
        for sum in sums {
            lanes.store(sum, &mut all, 0);
            left += all[0];
        }
        (2 * AT_ONCE * L::WIDTH * self.rounds, left)
    }
}

/// Operations on floats that one thread computes in a second at most, a product and a sum counted as two; the best of several tries.
#[must_use]
pub fn peak_flops() -> f64 {
    let speed = |_| {
        let start = Instant::now();
        let (operations, sum) = Processor::detect().compute(Peak { rounds: 1_000_000 });
        std::hint::black_box(sum);
        operations as f64 / start.elapsed().as_secs_f64()
    };
    (0..8).map(speed).fold(0.0, f64::max)
}
