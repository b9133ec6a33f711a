//! A network fitted to its parent along its own path, and shipped so.

use std::fs;
use std::path::Path;

use criadero::checkpoint::{Checkpoint, LayerTensor, TensorName};
use criadero::model::ranking::{own_text, reconstruct};
use criadero::model::{Llama, TokenTree};
use criadero::space::Genome;
use tch::{Kind, Tensor};

use crate::command::{criadero, fail, said, succeed};
use crate::goldens::{TINY, load, tiny, tiny_model};

/// Narrow halves, halves that are gone, and a layer that is.
const NETWORK: &str = "2x64:4x0:-:0x96";

fn text(dir: &Path) -> String {
    let text = dir.join("text.txt");
    fs::write(&text, "What is which? Question one is two. The goose is larger than the trout. ".repeat(40)).unwrap();
    text.display().to_string()
}

/// KL divergence of what a network predicts from what the parent does, as `criadero::model::head` has it: nats a token.
fn divergence(model: &Llama, windows: &[Vec<u32>]) -> f64 {
    let parent = tiny_model();
    let of = |window: &Vec<u32>| {
        let log_probs = |model: &Llama| {
            let batch = model.batch(&TokenTree::chain(window)).unwrap();
            tch::no_grad(|| model.whole().unwrap().forward(&batch).log_softmax(-1, Kind::Double)) // (t, v)
        };
        // The parent's 64 most likely tokens, and all others as one.
        let (of_parent, own) = (log_probs(&parent), log_probs(model));
        let (top, tokens) = of_parent.topk(64, -1, true, true);
        let buckets = |log_probs: Tensor| {
            let rest = 1.0_f64 - log_probs.exp().sum_dim_intlist(-1, true, Kind::Double);
            Tensor::cat(&[log_probs, rest.log()], 1) // (t, 65)
        };
        let (of_parent, own) = (buckets(top), buckets(own.gather(1, &tokens, false)));
        // The last row predicts nothing of the window.
        let rows = window.len() as i64 - 1;
        ((&of_parent - own) * of_parent.exp()).narrow(0, 0, rows).sum(Kind::Double).double_value(&[]) / rows as f64
    };
    windows.iter().map(of).sum::<f64>() / windows.len() as f64
}

#[test]
fn a_fitted_network_is_closer_to_its_parent_and_says_how_close() {
    let (model, genome) = (tiny_model(), NETWORK.parse::<Genome>().unwrap());
    let windows = own_text(&model, 64, 64, &mut |_| ()).unwrap();
    let mut layers = Vec::new();
    let fitted = reconstruct(&model, &genome, &windows, &mut |layer| layers.push(layer)).unwrap();
    assert_eq!(layers, [1, 2, 3, 4]);
    let writers = |layer, tensor| TensorName::Layer(layer, tensor);
    let expected =
        [(0, LayerTensor::O, 32), (0, LayerTensor::Down, 64), (1, LayerTensor::O, 64), (3, LayerTensor::Down, 96)];
    let expected: Vec<_> = expected.map(|(layer, tensor, columns)| (writers(layer, tensor), columns)).into();
    assert_eq!(fitted.changes.keys().copied().collect::<Vec<_>>(), expected, "halves that are there");

    let dir = tempfile::tempdir().unwrap();
    let shipped = |name: &str, parent: &Checkpoint| {
        let out = dir.path().join(name);
        criadero::checkpoint::export(parent, &genome, &criadero::checkpoint::export::Hf, None, &out).unwrap();
        load(&Checkpoint::open(&out).unwrap())
    };
    let parent = tiny();
    let before = divergence(&shipped("before", &parent), &windows[56..]);
    let after = divergence(&shipped("after", &parent.with_changes(&fitted.changes).unwrap()), &windows[56..]);
    for (said, found) in fitted.divergence.iter().zip([before, after]) {
        // The tiny model's weights are bfloat16, and so are the shipped ones.
        assert!((said - found).abs() < 0.02 * found, "{said}, but what is shipped has {found}");
    }
    assert!(after < 0.9 * before, "{after} after {before}");
}

#[test]
fn the_whole_model_has_nothing_to_be_fitted() {
    let model = tiny_model();
    let windows = own_text(&model, 8, 32, &mut |_| ()).unwrap();
    let fitted = reconstruct(&model, model.whole().unwrap().genome(), &windows, &mut |_| ()).unwrap();
    let largest = fitted.changes.values().map(|change| change.abs().max().double_value(&[])).fold(0.0, f64::max);
    assert!(largest < 1e-5, "{largest}");
    assert!(fitted.divergence.iter().all(|divergence| divergence.abs() < 1e-5), "{:?}", fitted.divergence);
    let one = reconstruct(&model, model.whole().unwrap().genome(), &windows[..1], &mut |_| ()).err().unwrap();
    assert!(one.to_string().contains("1 windows") && one.to_string().contains("two windows of text"), "{one}");
}

#[test]
fn export_reconstructs_every_format_and_says_what_it_gains() {
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path());
    let export = |format: &str, more: &[&str]| {
        let out = dir.path().join(format!("{format}{}", more.len())).display().to_string();
        let common = ["export", TINY, "--genome", NETWORK, "--format", format, "--out", &out];
        (succeed(criadero(&[&common, more].concat())), out)
    };
    let fit = ["--reconstruct", "--text", &text, "--tokens", "1024", "--window", "64"];
    let (plain, _) = export("hf", &[]);
    assert!(!plain.contains("KL divergence"), "{plain}");
    let (found, hf) = export("hf", &fit);
    assert!(found.contains("KL divergence from the parent on text held out: "), "{found}");
    let number = |behind: &str| -> f64 {
        found.split(behind).nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(number("reconstructed ") < number("held out: "), "{found}");
    let model = |path: &str| load(&Checkpoint::open(path).unwrap());
    let logits = |path: &str| {
        let model = model(path);
        let batch = model.batch(&TokenTree::chain(&[1, 5, 9, 300, 44])).unwrap();
        tch::no_grad(|| model.whole().unwrap().forward(&batch))
    };
    let (_, padded) = export("hf-padded", &fit);
    let difference = (logits(&hf) - logits(&padded)).abs().max().double_value(&[]);
    assert!(difference < 1e-4, "{difference}");

    // All of the model: as good as it can be already.
    let whole = dir.path().join("whole").display().to_string();
    let (_, note) = said(criadero(&[&["export", TINY, "--format", "hf", "--out", &whole], &fit[..]].concat()));
    assert!(note.contains("reconstruction is of no use to this network"), "{note}");
    let error =
        fail(criadero(&["export", TINY, "--format", "hf", "--out", &whole, "--reconstruct", "--text", "no/file"]));
    assert!(error.contains("no/file") && error.contains("--text"), "{error}");
}
