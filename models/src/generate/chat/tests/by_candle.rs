//! The same files computed by candle-transformers, which shares no code with ours.

use std::fs::File;

use candle_core::{
    Device, Tensor,
    quantized::gguf_file::{Content, Value},
};
use candle_transformers::models::{
    quantized_gemma3, quantized_lfm2, quantized_llama, quantized_phi3, quantized_qwen2, quantized_qwen3,
};

use super::{parity::reference, *};

/// Whole files of one kind, and a mixture.
const QUANTS: [&str; 5] = ["tiny-q40", "tiny-q4ks", "tiny-q5ks", "tiny-q6k", "tiny-q4km"];

/// What candle makes of a file: the logits of tokens that follow others, of which there were so many.
type Forward = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>>;

fn by_candle(name: &str) -> Forward {
    let mut file = File::open(path(name)).unwrap();
    let mut content = Content::read(&mut file).unwrap();
    // Keys and values in whole floats.
    content.metadata.insert("general.dtype".to_owned(), Value::U32(0));
    let family = content.metadata["general.architecture"].to_string().unwrap().clone();
    let (file, cpu) = (&mut file, &Device::Cpu);
    macro_rules! forward {
        ($model:expr) => {{
            let mut model = $model.unwrap();
            Box::new(move |tokens: &Tensor, before| model.forward(tokens, before))
        }};
    }
    match family.as_str() {
        "llama" => forward!(quantized_llama::ModelWeights::from_gguf(content, file, cpu)),
        "qwen2" => forward!(quantized_qwen2::ModelWeights::from_gguf(content, file, cpu)),
        "qwen3" => forward!(quantized_qwen3::ModelWeights::from_gguf(content, file, cpu)),
        "gemma3" => forward!(quantized_gemma3::ModelWeights::from_gguf(content, file, cpu)),
        "phi3" => forward!(quantized_phi3::ModelWeights::from_gguf(false, content, file, cpu)),
        "lfm2" => forward!(quantized_lfm2::ModelWeights::from_gguf(content, file, cpu)),
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn logits_are_those_of_candle() {
    let names = NAMES.into_iter().chain(FAMILIES).chain(QUANTS);
    // Its Phi-3 has a matrix of its own for the output, and turns whole heads.
    for name in names.filter(|name| *name != "tiny-phi4") {
        let mut decoder = Chat::load(&path(name)).unwrap().decoder;
        match name {
            "tiny-llama3" => decoder.simplify(500.0),
            "tiny-gemma3" => decoder.simplify(1e6),
            "tiny-phi3" => decoder.simplify(10_000.0),
            _ => {}
        }
        let mut candle = by_candle(name);
        let mut session = decoder.session();
        // Fewer than Gemma's window has, of which candle sees one more.
        let tokens = &reference(name).prompt_ids[..14];
        let (mut furthest, mut before) = (0.0f32, 0);
        for count in [9, 1, 1, 1, 1, 1] {
            let new = &tokens[before..before + count];
            let found = decoder.forward(&mut session, new).unwrap();
            let expected = candle(&Tensor::new(new, &Device::Cpu).unwrap().unsqueeze(0).unwrap(), before).unwrap();
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(found.len(), expected.len());
            furthest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(furthest, f32::max);
            before += count;
        }
        println!("{name}: largest difference of a logit to candle's {furthest}");
        // It rounds activations too, in longer blocks.
        let most = if name.ends_with("-q8") || QUANTS.contains(&name) { 0.3 } else { 0.01 };
        assert!(furthest < most, "{name}: {furthest}");
    }
}
