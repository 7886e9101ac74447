//! Files of packed weights made of tiny models: whole, damaged, cut off, of another model, and lying.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    decoder::{Cache, Decoder, lay_out},
    lanes::Processor,
};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/tiny").join(format!("{name}.gguf"))
}

/// A model of its own in a folder of its own, and a folder for its weights that is not there yet.
struct Case {
    _folder: TempDir,
    model: PathBuf,
    weights: PathBuf,
}

impl Case {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (model, weights) = (folder.path().join("a model.gguf"), folder.path().join("weights"));
        std::fs::copy(reference(name), &model).unwrap();
        Self { _folder: folder, model, weights }
    }

    fn file(&self) -> PathBuf {
        file_of(&self.weights, &self.model)
    }

    fn decoder(&self, bring: impl FnOnce(&Gguf, &Plan, &mut Pool) -> Result<Weights, Error>) -> Decoder {
        let file = Gguf::open(&self.model).unwrap();
        let vocabulary = file.texts("tokenizer.ggml.tokens").unwrap().len();
        let layout = lay_out(&file, vocabulary).unwrap();
        layout.load(2, Cache::Half, Processor::detect(), |plan, pool| bring(&file, plan, pool)).unwrap()
    }

    /// Logits from weights in memory.
    fn expected(&self) -> Vec<u32> {
        bits(&self.decoder(|_, plan, pool| plan.load(pool)))
    }

    /// Logits from weights in the folder, if they are mapped.
    fn found(&self) -> Option<Vec<u32>> {
        let decoder = self.decoder(|file, plan, pool| weights(&self.weights, file, plan, pool));
        (decoder.mapped_bytes() > 0).then(|| bits(&decoder))
    }

    /// Puts this in place of the file of weights, which may be mapped, and says whether the next load made it anew.
    fn is_made_anew(&self, bytes: &[u8]) -> bool {
        let other = self.weights.join("other");
        std::fs::write(&other, bytes).unwrap();
        std::fs::rename(&other, self.file()).unwrap();
        let before = std::fs::metadata(self.file()).unwrap().ino();
        // The inode of a file that is gone may be given again at once.
        let _kept = File::open(self.file()).unwrap();
        assert!(self.found().is_some());
        std::fs::metadata(self.file()).unwrap().ino() != before
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.weights).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn bits(decoder: &Decoder) -> Vec<u32> {
    let mut session = decoder.session();
    let mut logits = decoder.forward(&mut session, &[3, 1, 4, 1, 5, 9, 2, 6]).unwrap();
    logits.extend(decoder.forward(&mut session, &[7]).unwrap());
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn memory_a_first_load_and_a_later_one_give_the_same_bits() {
    for name in ["tiny-llama3", "tiny-qwen3", "tiny-qwen3-q8", "tiny-phi3", "tiny-lfm2-q8", "tiny-q40", "tiny-q4km"] {
        let case = Case::of(name);
        let expected = case.expected();
        assert_eq!(case.found().as_ref(), Some(&expected), "{name}: the first load");
        let written = std::fs::read(case.file()).unwrap();
        assert!(!case.is_made_anew(&written), "{name}: it is whole");
        assert_eq!(case.found(), Some(expected), "{name}: a later load");
        assert_eq!(case.names().len(), 1, "{name}: nothing else is left");
    }
}

#[test]
fn what_is_damaged_or_cut_off_is_made_anew() {
    let case = Case::of("tiny-q4km");
    let expected = case.found().unwrap();
    let whole = std::fs::read(case.file()).unwrap();
    let weights = case.decoder(|_, plan, pool| plan.load(pool)).weights_bytes();
    // All bytes of the seal, and some of the weights.
    let places = (0..weights).step_by(weights / 40).chain(weights - 1..whole.len());
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(case.is_made_anew(&bytes), "byte {at} of {} is another", whole.len());
        assert!(case.is_made_anew(&whole[..at]), "cut off after {at} of {}", whole.len());
    }
    assert!(case.is_made_anew(&[whole.as_slice(), &[0]].concat()), "a byte too long");
    assert_eq!(std::fs::read(case.file()).unwrap(), whole);
    assert_eq!(case.found(), Some(expected));
}

#[test]
fn weights_of_several_pieces_are_checked_in_each_and_cross_their_borders() {
    // Groups of 17 kB: none ends where a piece does.
    let (rows, columns) = (4_801, 1_024);
    let row = |at: usize| (0..columns).flat_map(move |column| ((at * 31 + column) as f32).sin().to_le_bytes());
    let bytes: Vec<u8> = (0..rows).flat_map(row).collect();
    let folder = tempfile::tempdir().unwrap();
    let model = Case::of("tiny-q40");
    let gguf = Gguf::open(&model.model).unwrap();
    let mut plan = Plan::default();
    for _ in 0..2 {
        plan.add(crate::gguf::Rows::of(&bytes, crate::gguf::Kind::F32, rows, columns), crate::product::Order::Stored);
    }
    let (path, mut pool) = (folder.path().join("w.packed"), Pool::new(3));
    let mut one_piece = vec![0; plan.len()];
    plan.fill(0, &mut one_piece).unwrap();
    let load = |pool: &mut Pool| kept(&path, &gguf, &plan, pool).unwrap();
    assert!(load(&mut pool)[..] == one_piece[..], "packed piece by piece");
    let written = std::fs::read(&path).unwrap();
    for at in (0..plan.len()).step_by(PIECE) {
        let mut bytes = written.clone();
        bytes[at] ^= 1;
        std::fs::write(folder.path().join("other"), &bytes).unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        let seal = Seal { source: source(&gguf, &plan).unwrap(), len: plan.len() };
        let error = open(&path, &seal, &mut pool).unwrap_err().to_string();
        assert!(error.ends_with(&format!("damaged after {at} bytes")), "{error}");
        assert!(load(&mut pool)[..] == one_piece[..]);
        assert!(std::fs::read(&path).unwrap() == written);
    }
}

#[test]
fn a_model_that_changed_in_its_length_is_noticed() {
    let case = Case::of("tiny-qwen3-q8");
    let before = case.found().unwrap();
    let mut bytes = std::fs::read(&case.model).unwrap();
    let modified = std::fs::metadata(&case.model).unwrap().modified().unwrap();
    // The last tensor's last row: its numbers are the same in another order.
    let last = bytes.len() - 32;
    bytes[last..].reverse();
    std::fs::write(&case.model, &bytes).unwrap();
    File::options().write(true).open(&case.model).unwrap().set_modified(modified).unwrap();
    let after = case.found().unwrap();
    assert_ne!(after, before, "the file of before served");
    assert_eq!(after, case.expected());
}

#[test]
fn where_no_file_can_be_made_weights_go_into_memory() {
    let case = Case::of("tiny-q40");
    let no_folder = case.weights.join("nor the one that it would be in");
    std::fs::write(&case.weights, b"a file").unwrap();
    for folder in [&case.weights, &no_folder] {
        let decoder = case.decoder(|file, plan, pool| weights(folder, file, plan, pool));
        assert_eq!((decoder.mapped_bytes(), bits(&decoder)), (0, case.expected()));
    }
    let folder = tempfile::tempdir().unwrap();
    let part = Part::begin(&folder.path().join("w.packed")).unwrap();
    part.claim(1 << 60).unwrap_err();
    drop(part);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what was begun is gone");
}

#[test]
fn what_belongs_to_no_model_is_swept_and_what_others_are_making_is_not() {
    let (case, other) = (Case::of("tiny-q40"), Case::of("tiny-q6k"));
    case.found().unwrap();
    let gone = file_of(&case.weights, &other.model);
    std::fs::write(&gone, [0; 7]).unwrap();
    std::fs::write(case.weights.join("x.77-0.part"), [0; 5]).unwrap();
    std::fs::write(case.weights.join("letter.txt"), b"not ours").unwrap();
    let making = Part::begin(&gone).unwrap();
    assert_eq!(sweep(&case.weights, std::slice::from_ref(&case.model)).unwrap(), 12);
    let mut names = case.names();
    names.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let own = name(&case.file());
    let making_name = names.iter().find(|name| name.ends_with(".part")).cloned().unwrap();
    let mut expected = vec![own, making_name, "letter.txt".to_owned()];
    expected.sort();
    assert_eq!(names, expected);
    making.place(&gone).unwrap();
    assert!(gone.exists() && case.names().len() == 3);
    assert_eq!(sweep(&case.weights.join("absent"), &[]).unwrap(), 0);
}

#[test]
fn loads_at_the_same_time_leave_one_whole_file() {
    let case = Case::of("tiny-q4km");
    let expected = case.expected();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..5).map(|_| case.found()).collect::<Vec<_>>())).collect();
        for found in loads.into_iter().flat_map(|load| load.join().unwrap()) {
            assert_eq!(found.as_ref(), Some(&expected));
        }
    });
    assert_eq!(case.names().len(), 1);
    let written = std::fs::read(case.file()).unwrap();
    assert!(!case.is_made_anew(&written));
}

/// If this fails because weights are to be packed in another way, raise `PACKING` in `product/weights.rs` and write the new numbers here.
#[test]
fn the_packing_is_that_of_its_number() {
    let mut found = Vec::new();
    for name in ["tiny-llama3", "tiny-qwen3-q8", "tiny-q40", "tiny-q4ks", "tiny-q5ks", "tiny-q6k", "tiny-q4km"] {
        let case = Case::of(name);
        case.decoder(|_, plan, _| {
            let mut bytes = vec![0; plan.len()];
            plan.fill(0, &mut bytes)?;
            let packing = plan.recipe().lines().next().unwrap_or_default().to_owned();
            found.push(format!("{name}: {packing} is {:08x}", crc32fast::hash(&bytes)));
            plan.load(&mut Pool::new(1))
        });
    }
    let expected = [
        "tiny-llama3: packing 2 is bafc9b09",
        "tiny-qwen3-q8: packing 2 is ec17fc6f",
        "tiny-q40: packing 2 is 918f2744",
        "tiny-q4ks: packing 2 is 21560170",
        "tiny-q5ks: packing 2 is c2fe7e0a",
        "tiny-q6k: packing 2 is fa08d03b",
        "tiny-q4km: packing 2 is b275222b",
    ];
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// A seal that lies and is right in its own check. proptest prints the failing input and keeps its seed.
    #[test]
    fn no_lie_in_a_seal_is_believed_or_panics(at in 0usize..60, lie in any::<u64>(), len in 1usize..9, longer in 0usize..100) {
        let case = Case::of("tiny-q40");
        let expected = case.found().unwrap();
        let mut bytes = std::fs::read(case.file()).unwrap();
        let weights = case.decoder(|_, plan, pool| plan.load(pool)).weights_bytes();
        let check = bytes.len() - 4;
        let from = (weights + at).min(check);
        let end = (from + len).min(check);
        let is_lie = bytes[from..end] != lie.to_le_bytes()[..end - from] || longer > 0;
        bytes[from..end].copy_from_slice(&lie.to_le_bytes()[..end - from]);
        let right = crc32fast::hash(&bytes[weights..check]).to_le_bytes();
        bytes[check..].copy_from_slice(&right);
        bytes.resize(bytes.len() + longer, 0);
        prop_assert_eq!(case.is_made_anew(&bytes), is_lie);
        prop_assert_eq!(case.found(), Some(expected));
    }
}
