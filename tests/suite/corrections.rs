//! Matrices corrected for narrower widths: ranked, scored, quantized, trained and shipped as the same values.

use std::fs;
use std::path::Path;

use criadero::checkpoint::export::{Gguf, Hf, HfPadded};
use criadero::checkpoint::{Checkpoint, Exporter, LayerTensor, TensorName, export};
use criadero::model::{Llama, TokenTree};
use criadero::space::Genome;
use tch::{Kind, Tensor};

use crate::command::{criadero, fail, said, succeed};
use crate::goldens::{TINY, load};

/// A supernet of the tiny model, corrected for the widths of its space.
fn supernet(dir: &Path) -> String {
    ranked(dir, "1024").0
}

/// The same by so many tokens, and what `rank` said beside its output.
fn ranked(dir: &Path, tokens: &str) -> (String, String) {
    let text = dir.join("text.txt");
    fs::write(&text, "What is which? Question one is two. The goose is larger than the trout. ".repeat(40)).unwrap();
    let (text, out) = (text.display().to_string(), dir.join("supernet").display().to_string());
    let rank = ["rank", TINY, "--text", &text, "--out", &out, "--tokens", tokens, "--window", "64", "--space", "tiny"];
    let (_, notes) = said(criadero(&rank));
    (out, notes)
}

#[test]
fn too_little_text_is_said_and_how_much_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let (_, notes) = ranked(dir.path(), "128");
    assert!(notes.contains("128 tokens of calibration text for matrices of 128 inputs"), "{notes}");
    assert!(notes.contains("512 tokens or more are better"), "{notes}");
    let dir = tempfile::tempdir().unwrap();
    let (_, notes) = ranked(dir.path(), "1024");
    assert!(!notes.contains("calibration text"), "{notes}");
}

fn logits(model: &Llama, genome: &Genome) -> Tensor {
    let batch = model.batch(&TokenTree::chain(&[1, 5, 9, 300, 44, 7, 8, 2, 511, 0])).unwrap();
    tch::no_grad(|| model.network(genome).unwrap().forward(&batch))
}

fn genome(text: &str) -> Genome {
    text.parse().unwrap()
}

#[test]
fn a_narrow_network_is_corrected_and_the_whole_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = supernet(dir.path());
    let corrected = Checkpoint::open(&supernet).unwrap();
    let (with, whole, narrow) = (load(&corrected), genome("4x128*4"), genome("2x64:4x96:2x128:4x32"));
    let parent = load(&Checkpoint::open(TINY).unwrap());
    let exact = logits(&parent, &whole);
    let distance = |logits: Tensor| (logits - &exact).square().mean(Kind::Float).double_value(&[]);
    assert!(distance(logits(&with, &whole)) < 1e-6, "the supernet computes what its parent does");

    fs::rename(Path::new(&supernet).join("corrections.safetensors"), dir.path().join("corrections")).unwrap();
    let plain = Checkpoint::open(&supernet).unwrap();
    assert_ne!(plain.digest().unwrap(), corrected.digest().unwrap(), "they are other models");
    assert_eq!(plain.weights_digest().unwrap(), corrected.weights_digest().unwrap());
    let (ours, theirs) = (distance(logits(&with, &narrow)), distance(logits(&load(&plain), &narrow)));
    assert!(ours != theirs, "{ours} is {theirs}: nothing was corrected");
}

#[test]
fn a_damaged_correction_is_refused_where_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = supernet(dir.path());
    let path = Path::new(&supernet).join("corrections.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&supernet).unwrap();
    let read = |of| checkpoint.corrections().read(of, Kind::Float);
    let errors: Vec<String> =
        checkpoint.corrections().matrices().filter_map(|of| Some(read(of).err()?.to_string())).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("corrections.safetensors") && errors[0].contains("its checksum is"), "{errors:?}");
}

#[test]
fn what_is_scored_is_what_is_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = Checkpoint::open(supernet(dir.path())).unwrap();
    let model = load(&supernet);
    for (place, text) in ["2x64:4x96:2x128:4x32", "2x64@8:4x96@8:2x128@8:4x32@8", "4x64@4*4"].iter().enumerate() {
        let narrow = genome(text);
        let formats: [&dyn Exporter; 3] = [&Hf, &HfPadded, &Gguf];
        for (format, exporter) in formats.into_iter().enumerate() {
            let out = dir.path().join(format!("{place}-{format}"));
            let written = export(&supernet, &narrow, exporter, Some("f32".parse().unwrap()), &out).unwrap();
            let shipped = Checkpoint::open(written).unwrap();
            assert!(shipped.corrections().is_empty(), "a network of its own is an ordinary checkpoint");
            let found = logits(&load(&shipped), &shipped.config().genome);
            let largest = (found - logits(&model, &narrow)).abs().max().double_value(&[]);
            assert!(largest < 1e-4, "{text} {format}: {largest}");
            let down = TensorName::Layer(0, LayerTensor::Down);
            let channels = i64::from(narrow.genes()[0].mlp);
            let ours = shipped.tensor(down, Kind::Float).unwrap().narrow(1, 0, channels);
            if !narrow.is_quantized() {
                let scored = supernet.corrections().read((down, channels as usize), Kind::Float).unwrap();
                assert_eq!(ours, scored, "{text}: bit for bit");
            }
        }
    }
}

#[test]
fn what_lacks_corrections_or_has_those_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = supernet(dir.path());
    let ranked = Checkpoint::open(&supernet).unwrap();
    let lacking = "no correction for 48 columns, but for 32, 64, 96; rank the parent again";
    let error = ranked.subnet(&genome("2x48*4")).unwrap_err().to_string();
    assert!(error.contains(lacking), "{error}");
    let formats: [&dyn Exporter; 3] = [&Hf, &HfPadded, &Gguf];
    for exporter in formats {
        let error = export(&ranked, &genome("2x48*4"), exporter, None, &dir.path().join("small")).unwrap_err();
        assert!(error.to_string().contains(lacking), "{error}");
    }

    let space = dir.path().join("space.yaml");
    let shipped = fs::read_to_string("search-spaces/tiny.yaml").unwrap();
    let wider = shipped.replace("mlp: [", "mlp: [48, ");
    assert_ne!(wider, shipped);
    fs::write(&space, wider).unwrap();
    let (space, out) = (space.display().to_string(), dir.path().join("run").display().to_string());
    let task = crate::eval::questions(dir.path(), 4);
    let objective = format!("choice_nll:{task}");
    let search = ["search", &space, "--model", &supernet, "--objective", &objective, "--objective", "params"];
    let mut command = criadero(&search);
    command.args(["--evals", "4", "--population", "4", "--out", &out]);
    let error = fail(command);
    assert!(error.contains("no correction for 48 columns"), "{error}");

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(Path::new(TINY).join(name), other.join(name)).unwrap();
    }
    fs::copy(Path::new(&supernet).join("corrections.safetensors"), other.join("corrections.safetensors")).unwrap();
    let error = Checkpoint::open(&other).err().unwrap().to_string();
    assert!(
        error.contains("the corrections are of other weights") && error.contains("rank the model again"),
        "{error}"
    );

    // Ranked again without a space, the directory has none.
    let text = dir.path().join("text.txt").display().to_string();
    succeed(criadero(&["rank", TINY, "--text", &text, "--out", &supernet, "--tokens", "512", "--window", "64"]));
    assert!(Checkpoint::open(&supernet).unwrap().corrections().is_empty());
}

#[test]
fn corrections_are_trained_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = supernet(dir.path());
    let text = dir.path().join("text.txt").display().to_string();
    for (name, more) in [("full", &[][..]), ("lora", &["--lora", "2"])] {
        let out = dir.path().join(name).display().to_string();
        let tune = ["tune", &supernet, "--space", "tiny", "--data", &text, "--out", &out, "--length", "64"];
        let mut command = criadero(&tune);
        command.args(["--steps", "4", "--measure-every", "4", "--threads", "1", "--learning-rate", "3e-3"]).args(more);
        succeed(command);
        let (before, after) = (Checkpoint::open(&supernet).unwrap(), Checkpoint::open(&out).unwrap());
        let at = (TensorName::Layer(1, LayerTensor::Down), 64);
        let [was, is] = [&before, &after].map(|one| one.corrections().read(at, Kind::Float).unwrap());
        let moved = (is - was).abs().max().double_value(&[]);
        assert!(moved > 0.0, "{name}: trained");
        assert_eq!(before.corrections().matrices().count(), after.corrections().matrices().count());
        let narrow = genome("2x64*4");
        assert!(bool::try_from(logits(&load(&after), &narrow).isfinite().all()).unwrap());
    }
}
