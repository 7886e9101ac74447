//! A small net that learns: its weights, what it computes, and how its error changes with each of them.

/// One layer: `bias + input * weights`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// The weights of the first input to every output, then those of the second, and so on: so that the sums of all outputs
    /// go on side by side in the processor's lanes, each in the same order everywhere.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Layers with softsign (`x / (1 + |x|)`) between them, beside a layer straight from the input to the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    pub layers: Vec<Layer>,
    pub skip: Option<Layer>,
}

/// What was computed on the way through a net, and the slopes on the way back; kept from example to example.
#[derive(Default)]
pub(super) struct Pass {
    /// The input of each layer, activated.
    inputs: Vec<Vec<f32>>,
    pub output: Vec<f32>,
    slopes: Vec<f32>,
    before: Vec<f32>,
}

impl Layer {
    pub(super) fn zeros(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, weights: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] }
    }

    fn apply(&self, input: &[f32], output: &mut Vec<f32>) {
        output.clear();
        output.extend_from_slice(&self.bias);
        self.add(input, output);
    }

    fn add(&self, input: &[f32], output: &mut [f32]) {
        for (value, weights) in input.iter().zip(self.weights.chunks_exact(self.outputs)) {
            for (sum, weight) in output.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
    }

    /// Adds the slopes of this layer's weights, for slopes of its output.
    fn learn(&mut self, input: &[f32], slopes: &[f32]) {
        for (value, weights) in input.iter().zip(self.weights.chunks_exact_mut(self.outputs)) {
            for (weight, slope) in weights.iter_mut().zip(slopes) {
                *weight += value * slope;
            }
        }
        self.bias.iter_mut().zip(slopes).for_each(|(bias, slope)| *bias += slope);
    }

    /// The slopes of its input, for slopes of its output.
    fn back(&self, slopes: &[f32], before: &mut Vec<f32>) {
        before.clear();
        let sums = self
            .weights
            .chunks_exact(self.outputs)
            .map(|weights| weights.iter().zip(slopes).map(|(weight, slope)| weight * slope).sum::<f32>());
        before.extend(sums);
    }
}

impl Net {
    /// A net of the same widths in which everything is zero.
    pub(super) fn zeros(inputs: usize, inner: &[usize], outputs: usize, is_straight: bool) -> Self {
        let mut layers = Vec::with_capacity(inner.len() + 1);
        let mut width = inputs;
        for next in inner.iter().copied().chain([outputs]) {
            layers.push(Layer::zeros(width, next));
            width = next;
        }
        Self { layers, skip: is_straight.then(|| Layer::zeros(inputs, outputs)) }
    }

    /// Every weight and bias, in an order that is always the same.
    pub(super) fn numbers(&mut self) -> impl Iterator<Item = &mut f32> {
        let layers = self.layers.iter_mut().chain(&mut self.skip);
        layers.flat_map(|layer| layer.weights.iter_mut().chain(&mut layer.bias))
    }

    /// What the net makes of this input.
    pub(super) fn forward(&self, input: &[f32], pass: &mut Pass) {
        pass.inputs.resize_with(self.layers.len(), Vec::new);
        for (index, layer) in self.layers.iter().enumerate() {
            if index == 0 {
                layer.apply(input, &mut pass.output);
            } else {
                let inner = &mut pass.inputs[index];
                inner.clear();
                inner.extend(pass.output.iter().map(|value| value / (1.0 + value.abs())));
                layer.apply(inner, &mut pass.output);
            }
        }
        if let Some(skip) = &self.skip {
            skip.apply(input, &mut pass.before);
            pass.output.iter_mut().zip(&pass.before).for_each(|(sum, straight)| *sum += straight);
        }
    }

    /// Adds to `into` how the error changes with each weight, for `slopes` of the output that `forward` has just computed
    /// from the same input.
    pub(super) fn backward(&self, input: &[f32], slopes: &[f32], pass: &mut Pass, into: &mut Self) {
        if let Some(skip) = &mut into.skip {
            skip.learn(input, slopes);
        }
        pass.slopes.clear();
        pass.slopes.extend_from_slice(slopes);
        for index in (0..self.layers.len()).rev() {
            if index == 0 {
                into.layers[0].learn(input, &pass.slopes);
                break;
            }
            let inner = &pass.inputs[index];
            into.layers[index].learn(inner, &pass.slopes);
            self.layers[index].back(&pass.slopes, &mut pass.before);
            // The slope of softsign by its own value `y`: (1 - |y|)^2.
            for (slope, value) in pass.before.iter_mut().zip(inner) {
                let flat = 1.0 - value.abs();
                *slope *= flat * flat;
            }
            std::mem::swap(&mut pass.slopes, &mut pass.before);
        }
    }
}
