//! A small net as plain numbers, and what it computes: sums, products and one division an activation, in an order of its
//! own, so that the same weights give the same bits on every processor.

use serde::{Deserialize, Serialize};

/// Layers of one net, and numbers in one layer's input or output. A net of this size takes some microseconds a sample.
const LAYERS_MAX: usize = 8;
const WIDTH_MAX: usize = 512;

/// One layer: `bias + input * weights`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// The weights of the first input to every output, then those of the second, and so on.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Layers with an activation between them, beside a layer that goes straight from the input to the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Net {
    pub layers: Vec<Layer>,
    pub skip: Option<Layer>,
}

impl Layer {
    fn apply(&self, input: &[f64]) -> Vec<f64> {
        let mut output: Vec<f64> = self.bias.iter().copied().map(f64::from).collect();
        for (value, weights) in input.iter().zip(self.weights.chunks_exact(self.outputs.max(1))) {
            for (sum, weight) in output.iter_mut().zip(weights) {
                *sum += value * f64::from(*weight);
            }
        }
        output
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let wide = |width| (1..=WIDTH_MAX).contains(&width);
        if !wide(inputs) || !wide(outputs) {
            return Err(format!(
                "{name} takes {inputs} numbers and gives {outputs}: expected 1 to {WIDTH_MAX} of each"
            ));
        }
        if self.weights.len() != inputs * outputs || self.bias.len() != outputs {
            let (weights, bias) = (self.weights.len(), self.bias.len());
            return Err(format!("{name} of {inputs} x {outputs} has {weights} weights and {bias} of a bias"));
        }
        if self.weights.iter().chain(&self.bias).any(|weight| !weight.is_finite()) {
            return Err(format!("{name} has a weight that is no number"));
        }
        Ok(())
    }
}

impl Net {
    /// What the net makes of this input.
    #[must_use]
    pub fn apply(&self, input: &[f64]) -> Vec<f64> {
        let mut output = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            if index == 0 {
                output = layer.apply(input);
            } else {
                output.iter_mut().for_each(|value| *value = activated(*value));
                output = layer.apply(&output);
            }
        }
        if let Some(skip) = &self.skip {
            output.iter_mut().zip(skip.apply(input)).for_each(|(sum, straight)| *sum += straight);
        }
        output
    }

    /// Whether the layers fit each other and take and give so many numbers.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, inputs: usize, outputs: usize) -> Result<(), String> {
        if self.layers.is_empty() || self.layers.len() > LAYERS_MAX {
            return Err(format!("{} layers: expected 1 to {LAYERS_MAX}", self.layers.len()));
        }
        let mut width = inputs;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check(&format!("layer {index}"))?;
            if layer.inputs != width {
                return Err(format!("layer {index} takes {} numbers and gets {width}", layer.inputs));
            }
            width = layer.outputs;
        }
        if width != outputs {
            return Err(format!("the last layer gives {width} numbers: expected {outputs}"));
        }
        if let Some(skip) = &self.skip {
            skip.check("the straight layer")?;
            if (skip.inputs, skip.outputs) != (inputs, outputs) {
                return Err(format!(
                    "the straight layer is {} x {}: expected {inputs} x {outputs}",
                    skip.inputs, skip.outputs
                ));
            }
        }
        Ok(())
    }
}

/// Softsign: bounded, smooth, and exact in IEEE arithmetic, which the hyperbolic tangent of a system's library is not.
fn activated(value: f64) -> f64 {
    value / (1.0 + value.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(inputs: usize, outputs: usize, weights: &[f32], bias: &[f32]) -> Layer {
        Layer { inputs, outputs, weights: weights.to_vec(), bias: bias.to_vec() }
    }

    #[test]
    fn a_net_computes_what_is_worked_out_by_hand() {
        let net = Net {
            layers: vec![layer(2, 2, &[1.0, -1.0, 0.5, 2.0], &[0.0, 1.0]), layer(2, 1, &[4.0, 8.0], &[0.25])],
            skip: Some(layer(2, 1, &[10.0, 100.0], &[0.0])),
        };
        assert_eq!(net.check(2, 1), Ok(()));
        // Hidden: 2 + 0.5 * 2 = 3 and -2 + 2 * 2 + 1 = 3, so 3/4 each.
        assert_eq!(net.apply(&[2.0, 2.0]), [0.25 + 3.0 + 6.0 + 220.0]);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let one = || layer(2, 1, &[1.0, 1.0], &[0.0]);
        let told = |net: Net| net.check(2, 1).expect_err("refused");
        assert_eq!(told(Net { layers: Vec::new(), skip: None }), "0 layers: expected 1 to 8");
        let twice = Net { layers: vec![one(), one()], skip: None };
        assert_eq!(told(twice), "layer 1 takes 2 numbers and gets 1");
        let short = Net { layers: vec![layer(2, 1, &[1.0], &[0.0])], skip: None };
        assert_eq!(told(short), "layer 0 of 2 x 1 has 1 weights and 1 of a bias");
        let nan = Net { layers: vec![layer(2, 1, &[1.0, f32::NAN], &[0.0])], skip: None };
        assert_eq!(told(nan), "layer 0 has a weight that is no number");
        let skip = Net { layers: vec![one()], skip: Some(layer(1, 1, &[1.0], &[0.0])) };
        assert_eq!(told(skip), "the straight layer is 1 x 1: expected 2 x 1");
    }
}
