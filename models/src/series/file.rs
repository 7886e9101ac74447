//! A net as one safetensors file, with what its maker says of it as text.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::net::{Layer, Net};
use crate::Error;

/// Files that are loaded: those that are made have some tens of KiB.
const BYTES_MAX: usize = 16 << 20;
const LAYERS_MAX: usize = 8;
/// The form of the file; another is refused.
const FORM: &str = "skerry-series-1";

/// The bytes of a file. The same net and text give the same bytes.
///
/// # Errors
/// When a layer has not as many weights as its widths say.
pub fn save(net: &Net, text: &str) -> Result<Vec<u8>, Error> {
    let layers = net.layers.iter().enumerate().map(|(index, layer)| (index.to_string(), layer));
    let skip = net.skip.iter().map(|layer| ("skip".to_owned(), layer));
    let mut tensors = Vec::new();
    for (name, layer) in layers.chain(skip) {
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        tensors.push((format!("{name}.weight"), vec![layer.inputs, layer.outputs], bytes(&layer.weights)));
        tensors.push((format!("{name}.bias"), vec![layer.outputs], bytes(&layer.bias)));
    }
    let failed = |error: safetensors::SafeTensorError| Error::request(format!("the net cannot be saved: {error}"));
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?;
        Ok((name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    // One key alone: more would stand in the file in an order that changes.
    let text = serde_json::json!([FORM, text]).to_string();
    safetensors::serialize(views, Some(HashMap::from([("skerry".to_owned(), text)]))).map_err(failed)
}

/// Reads what `save` has made: the net and the text.
///
/// # Errors
/// What is wrong with the bytes.
pub fn load(bytes: &[u8]) -> Result<(Net, String), Error> {
    let wrong = |message: String| Error::request(format!("the bytes are no trained net: {message}"));
    if bytes.len() > BYTES_MAX {
        return Err(wrong(format!("{} bytes; expected at most {BYTES_MAX}", bytes.len())));
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| wrong(error.to_string()))?;
    let said = metadata.metadata().as_ref().and_then(|said| said.get("skerry"));
    let said = said.and_then(|said| serde_json::from_str::<(String, String)>(said).ok());
    let Some((form, text)) = said else { return Err(wrong("it does not say what it is".to_owned())) };
    if form != FORM {
        return Err(wrong(format!("it is of the form {form:?}; expected {FORM:?}")));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| wrong(error.to_string()))?;
    let numbers = |name: &str| {
        let tensor = file.tensor(name).ok()?;
        let floats = tensor.data().chunks_exact(4);
        let floats = floats.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of four")));
        (tensor.dtype() == Dtype::F32).then(|| (tensor.shape().to_vec(), floats.collect::<Vec<f32>>()))
    };
    let layer = |name: &str| {
        let Some((shape, weights)) = numbers(&format!("{name}.weight")) else { return Ok(None) };
        let bias = numbers(&format!("{name}.bias"));
        match (shape.as_slice(), bias) {
            ([inputs, outputs], Some((_, bias))) if bias.len() == *outputs => {
                Ok(Some(Layer { inputs: *inputs, outputs: *outputs, weights, bias }))
            }
            _ => Err(wrong(format!("the layer {name} has no weights of two sides with a bias"))),
        }
    };
    let mut layers = Vec::new();
    while layers.len() < LAYERS_MAX
        && let Some(next) = layer(&layers.len().to_string())?
    {
        layers.push(next);
    }
    let skip = layer("skip")?;
    let tensors = 2 * (layers.len() + usize::from(skip.is_some()));
    if layers.is_empty() || tensors != file.len() {
        return Err(wrong(format!("{} tensors, of which {tensors} belong to a net", file.len())));
    }
    Ok((Net { layers, skip }, text))
}
