//! `criadero route`, and what `eval` and `generate` make of its routers.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use criadero::model::{LayerRouter, TokenRouter, TokenTree};
use criadero::route::{RouteSettings, Router, Widths, train};
use criadero::space::{Genome, SearchSpace};
use criadero::tune::batch::Batch;
use criadero::tune::{Corpus, CorpusSettings, Reading, Records};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::command::{criadero, fail, succeed};
use crate::eval::questions;
use crate::goldens::{TINY, copy_of_tiny, tiny, tiny_model};
use crate::serve::Served;

fn text(dir: &Path) -> String {
    let path = dir.join("text.txt");
    let line = |place| format!("The llama of farm {place} is larger than the fox of farm {}.\n", place + 1);
    fs::write(&path, (0..120).map(line).collect::<String>()).unwrap();
    path.display().to_string()
}

/// Routers of the tiny model, made by the command.
fn routers(dir: &Path) -> String {
    let (text, out) = (text(dir), dir.join("router").display().to_string());
    let words = ["route", TINY, "--space", "tiny", "--data", &text, "--steps", "6", "--length", "48", "--threads", "1"];
    succeed(criadero(&[&words[..], &["--arithmetic", "f32", "--out", &out]].concat()));
    out
}

#[test]
fn each_token_gets_the_mlp_of_its_own_width() {
    let mut model = tiny_model();
    let tree = TokenTree::chain(&[5, 9, 200, 31, 77, 12, 400, 3]);
    let genome: Genome = "4x128*4".parse().unwrap();
    // The first layers, at one width each, say what the hidden states of the routed layer are.
    let hidden_of = |genome: &str| {
        let batch = model.batch(&tree).unwrap();
        tch::no_grad(|| model.network(&genome.parse().unwrap()).unwrap().hidden(&batch))
    };
    let narrow = hidden_of("4x128*3:4x64");
    let wide = hidden_of("4x128*4");
    let none = hidden_of("4x128*3:4x0");
    let d = wide.size()[1];
    // A router of rank 1 that goes by the sign of one hidden value, of the last layer alone.
    let down = Tensor::zeros([1, d], (Kind::Float, tch::Device::Cpu));
    let _ = down.narrow(1, 7, 1).fill_(1.0);
    let up = Tensor::from_slice(&[-3.0_f32, 0.0, 3.0]).view([3, 1]);
    let layer = |by: &Tensor| LayerRouter {
        widths: vec![0, 64, 128],
        down: by.shallow_clone(),
        up: up.shallow_clone(),
        bias: Tensor::from_slice(&[0.0_f32, 0.1, 0.0]),
    };
    let layers = |one: LayerRouter| vec![None, None, None, Some(one)];
    let router = TokenRouter::new(layers(layer(&down)), false);
    let counts = router.share();
    model.set_router(router);
    let batch = model.batch(&tree).unwrap();
    let routed = tch::no_grad(|| model.network(&genome).unwrap().hidden(&batch));
    let counted: Vec<(u32, u64)> = counts.tokens().remove(3);
    assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 8);
    assert!(counted.iter().filter(|(_, count)| *count > 0).count() > 1, "{counted:?}");
    let close = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap() < 1e-5;
    let mut found = [0_u64; 3];
    for token in 0..8 {
        let row = |of: &Tensor| of.narrow(0, token, 1);
        let place = [&none, &narrow, &wide].iter().position(|one| close(&row(&routed), &row(one)));
        found[place.unwrap_or_else(|| panic!("token {token} is of no width"))] += 1;
    }
    assert!(counted.iter().map(|(_, count)| *count).eq(found), "{counted:?} {found:?}");
    // By chance as many tokens get each width.
    let router = TokenRouter::new(layers(layer(&down)), true);
    let counts = router.share();
    model.set_router(router);
    drop(tch::no_grad(|| model.network(&genome).unwrap().hidden(&batch)));
    assert_eq!(counts.tokens().remove(3), counted);
    // What is quantized has no other widths.
    assert!(model.check(&"4x128@8*4".parse().unwrap()).unwrap_err().to_string().contains("a router"));
}

#[test]
fn routers_learn_to_keep_to_budgets_and_to_lose_little() {
    let (dir, model, checkpoint) = (tempfile::tempdir().unwrap(), tiny_model(), tiny());
    let tokenizer = checkpoint.tokenizer().unwrap();
    let reading = Reading { tokenizer: &tokenizer, chat_template: None, length: 48 };
    let documents = Records::read(Path::new(&text(dir.path())), &reading).unwrap().documents;
    let corpus = Corpus::new(documents, CorpusSettings { length: 48, held_out: 0.1 }).unwrap();
    let space = SearchSpace::shipped("tiny").unwrap();
    let widths = Widths::of(&space, None).unwrap();
    let settings = RouteSettings { steps: 60, batch: 1, learning_rate: 1e-2, seed: 3 };
    let mut told = Vec::new();
    let digest = checkpoint.digest().unwrap();
    let mut listen = |progress| told.push(progress);
    let router =
        train(&model, digest.clone(), widths.clone(), &corpus, settings, &AtomicBool::new(false), &mut listen).unwrap();
    assert_eq!((told.len(), told[0].step, told[119].step), (120, 1, 120));
    assert!(told.iter().all(|step| step.divergence.is_finite() && step.tokens > 0));
    for share in [0.5, 0.62, 0.8, 1.0] {
        let (network, fit) = (router.network(share), router.adaptive(share, false, tch::Device::Cpu));
        let macs = |genome: &Genome| criadero::space::Cost::of(space.shape(), genome).macs as f64;
        assert!(macs(&network) <= share * macs(&space.largest()) * (1.0 + 1e-9), "{share}: {network}");
        assert!(fit.genome.genes().iter().all(|gene| gene.mlp == 128), "the widest of each layer: {}", fit.genome);
    }
    // Tokens of the text that was held out keep to any budget, those between the trained ones, too.
    for share in [0.55, 0.72, 0.9, 0.97] {
        let fit = router.adaptive(share, false, tch::Device::Cpu);
        let (counts, mut routed) = (fit.router.share(), tiny_model());
        routed.set_router(fit.router);
        let network = routed.network(&fit.genome).unwrap();
        for sequence in corpus.held_out.iter().take(4) {
            drop(tch::no_grad(|| network.hidden(&Batch::new(&routed, &[sequence]).unwrap().forest)));
        }
        let cost = router.cost(&fit.genome, &counts);
        assert!(cost <= share + 1e-6, "{share}: {cost}");
    }
    let whole = router.adaptive(1.0, false, tch::Device::Cpu);
    assert_eq!(whole.genome, space.largest());
    assert_eq!(router.network(1.0), space.largest(), "with room for all nothing is left away");
    router.write(dir.path()).unwrap();
    let read = Router::read(dir.path(), &checkpoint).unwrap();
    assert!(read.widths() == &widths && read.network(0.62) == router.network(0.62));
    let again = train(&model, digest, widths, &corpus, settings, &AtomicBool::new(false), &mut |_| ()).unwrap();
    assert_eq!(again.network(0.62), router.network(0.62), "the same seed, the same router");
    let stopped = AtomicBool::new(true);
    let widths = read.widths().clone();
    let error = train(&model, String::new(), widths, &corpus, settings, &stopped, &mut |_| ()).err().unwrap();
    assert!(matches!(error, criadero::Error::Interrupted));
}

#[test]
fn eval_and_generate_run_a_router_and_refuse_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let (router, task) = (routers(dir.path()), questions(dir.path(), 12));
    let eval = |more: &[&str]| {
        let words = ["eval", TINY, "--task", &task, "--json", "--router", &router, "--budget", "share<=0.7"];
        let said = succeed(criadero(&[&words[..], more].concat()));
        let told: Value = serde_json::from_str(&said).unwrap();
        (told["choice_nll"].as_f64().unwrap(), told["routed"].clone())
    };
    let (nll, told) = eval(&[]);
    assert!(nll.is_finite() && told["router"] == "adaptive" && told["router_params"].as_u64() > Some(0), "{told}");
    let widths = told["mean_widths"].as_array().unwrap();
    assert!(widths.iter().all(|width| (0.0..=128.0).contains(&width.as_f64().unwrap())));
    let (_, chance) = eval(&["--by-chance"]);
    assert_eq!(chance["network"], told["network"]);
    let (_, fixed) = eval(&["--static"]);
    let genome = fixed["network"].as_str().unwrap();
    let (alone, _) = {
        let said = succeed(criadero(&["eval", TINY, "--task", &task, "--json", "--genome", genome]));
        let line: Value = serde_json::from_str(&said).unwrap();
        (line["choice_nll"].as_f64().unwrap(), ())
    };
    assert_eq!(eval(&["--static"]).0, alone, "a static router is its network");
    let written = |budget: &str| {
        let words =
            ["generate", TINY, "--router", &router, "--budget", budget, "--prompt", "The llama", "--max-tokens", "4"];
        let said = succeed(criadero(&[&words[..], &["--ignore-eos", "--json", "--threads", "1"]].concat()));
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let alone = written("share<=0.8");
    assert_eq!(alone["routed"]["router"], "adaptive");
    let serve = [TINY, "--router", &router, "--budget", "share<=0.8", "--threads", "1"];
    let asked = json!({ "model": "tiny-llama#router", "prompt": "The llama", "max_tokens": 2 });
    let answer = Served::start(&serve).complete(asked);
    assert_eq!(answer["model"], "tiny-llama#router", "in the arithmetic that it takes by itself: {answer}");
    let served = Served::start(&[&serve[..], &["--arithmetic", "f32"]].concat());
    for (model, same) in [("tiny-llama#router", true), ("tiny-llama", false)] {
        let asked =
            json!({ "model": model, "prompt": "The llama", "temperature": 0, "max_tokens": 4, "ignore_eos": true });
        let answer = served.complete(asked);
        assert!(
            answer["model"] == model && (!same || answer["choices"][0]["text"] == alone["text"]),
            "{answer} {alone}"
        );
    }
    drop(served);
    let refuse = |budget: &str, model: &str| {
        fail(criadero(&["eval", model, "--task", &task, "--router", &router, "--budget", budget]))
    };
    let error = refuse("share<=0.001", TINY);
    assert!(error.contains("the nearest are share<=0.0") && error.contains("macs<="), "{error}");
    assert!(refuse("prefill_tps>=3", TINY).contains("`macs<=N`"));
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    copy_of_tiny(&other);
    let config = fs::read_to_string(other.join("config.json")).unwrap();
    fs::write(other.join("config.json"), config.replace("1e-05", "2e-05")).unwrap();
    let error = refuse("share<=0.8", other.to_str().unwrap());
    assert!(error.contains("a router of another supernet") && error.contains("digest"), "{error}");
    let path = Path::new(&router).join("router.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(refuse("share<=0.8", TINY).contains("damaged"));
    let missing = fail(criadero(&["eval", TINY, "--task", &task, "--router", "nowhere", "--budget", "share<=0.8"]));
    assert!(missing.contains("criadero route"), "{missing}");
}
