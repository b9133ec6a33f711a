//! Generation with a cache, next to what it stands for, and `criadero generate`.

use criadero::checkpoint::Checkpoint;
use criadero::model::generation::{Generation, Sampler, Sampling};
use criadero::model::{DecodeBatch, KvCache, TokenTree};
use criadero::space::Genome;
use tch::Tensor;

use crate::command::criadero;
use crate::goldens::{TINY, load, smollm2};

/// With a cache products have other shapes and attention takes another of libtorch's kernels, so that sums have another order
/// and exponentials other last digits: about a hundred float32 roundings of the largest logit (46 were seen). A wrong
/// position or mask is a thousand times more.
fn allowed(logits: &Tensor) -> f64 {
    128.0 * f64::from(f32::EPSILON) * logits.abs().max().double_value(&[])
}

#[test]
fn a_cache_gives_the_logits_of_the_whole_text() {
    let model = load(&Checkpoint::open(TINY).unwrap());
    let text: Vec<u32> = (0..40).map(|place| place * 37 % 512).collect();
    for genome in ["4x128*4", "2x64*2:-:4x128", "0x64:4x0:2x96:0x32", "E@8:4x128@8*2:2x64@4:4x128:H@8"] {
        let genome: Genome = genome.parse().unwrap();
        let whole = tch::no_grad(|| {
            let batch = model.batch(&TokenTree::chain(&text)).unwrap();
            model.network(&genome).unwrap().forward(&batch)
        });
        let mut generation = Generation::begin(&model, &genome, &text[..7], text.len() - 7).unwrap();
        for next in 7..=text.len() {
            let expected = whole.get(next as i64 - 1);
            let difference = (generation.logits() - expected).abs().max().double_value(&[]);
            assert!(difference < allowed(&whole), "{genome}, token {next}: {difference}");
            if let Some(&token) = text.get(next) {
                generation.push(token).unwrap();
            }
        }
        assert!(generation.push(0).unwrap_err().to_string().contains("the room that the cache was made with"));
    }
}

#[test]
fn several_sequences_share_a_step_and_nothing_else() {
    let model = load(&Checkpoint::open(TINY).unwrap());
    let network = model.network(&"4x128:2x64*2:0x128".parse().unwrap()).unwrap();
    let texts: [[i64; 6]; 3] = [[1, 5, 9, 2, 4, 8], [7, 7, 7, 7, 7, 7], [500, 3, 20, 11, 0, 1]];
    let extend = |cache: &mut KvCache, tokens: &[&[i64]]| {
        let flat: Vec<i64> = tokens.concat();
        let tokens = Tensor::from_slice(&flat).view([tokens.len() as i64, -1]);
        tch::no_grad(|| network.logits(&network.extend(&tokens, cache).unwrap()))
    };
    let mut together = network.cache(3, 6).unwrap();
    // Keys and values of 2, 1, 1 and 0 KV heads of width 16, 3 sequences of 6 tokens.
    assert_eq!(together.bytes(), 2 * 4 * (2 + 1 + 1) * 16 * 3 * 6);
    let first: Vec<&[i64]> = texts.iter().map(|text| &text[..4]).collect();
    let _ = extend(&mut together, &first);
    let step: Vec<&[i64]> = texts.iter().map(|text| &text[4..5]).collect();
    let both = extend(&mut together, &step);
    for (place, text) in texts.iter().enumerate() {
        let mut alone = network.cache(1, 6).unwrap();
        let _ = extend(&mut alone, &[&text[..4]]);
        let logits = extend(&mut alone, &[&text[4..5]]);
        let difference = (logits.get(0) - both.get(place as i64)).abs().max().double_value(&[]);
        assert!(difference < allowed(&both), "{place}: {difference}");
    }
    let two = tch::no_grad(|| network.extend(&Tensor::from_slice(&[1_i64, 2, 3, 4, 5, 6]).view([3, 2]), &mut together));
    assert!(two.unwrap_err().to_string().contains("one a sequence"));
    assert!(network.cache(1, 1 << 20).is_err());
}

#[test]
fn sequences_of_a_batch_come_and_go_and_are_what_they_are_alone() {
    let model = load(&Checkpoint::open(TINY).unwrap());
    let genome: Genome = "4x128:2x64*2:0x128".parse().unwrap();
    let mut batch = DecodeBatch::of(&model, &genome).unwrap();
    let mut alone: Vec<Generation> = Vec::new();
    let prompt = |length: u32| -> Vec<u32> { (0..length).map(|place| (place * 37 + length) % 512).collect() };
    let same = |found: &Tensor, alone: &Generation, what: &str| {
        let difference = (found - alone.logits()).abs().max().double_value(&[]);
        assert!(difference < allowed(alone.logits()), "{what}: {difference}");
    };
    // Lengths that make more room for rows and for tokens; who leaves is the first, one in the middle, and the last.
    for (step, (joins, leaves)) in
        [(5, None), (1, None), (230, Some(0)), (40, None), (7, Some(1)), (90, Some(3)), (2, None)]
            .into_iter()
            .enumerate()
    {
        let tokens = prompt(joins);
        assert!(batch.bytes_with(tokens.len() + 20) >= batch.bytes());
        let logits = batch.join(&tokens, 20).unwrap();
        alone.push(Generation::begin(&model, &genome, &tokens, 20).unwrap());
        same(&logits, alone.last().unwrap(), &format!("step {step}, prompt"));
        for more in 0..2_u32 {
            let next: Vec<u32> = (0..alone.len() as u32).map(|row| (row * 91 + more + step as u32) % 512).collect();
            let logits = batch.push(&next).unwrap();
            for (row, (one, token)) in alone.iter_mut().zip(next).enumerate() {
                one.push(token).unwrap();
                same(&logits.get(row as i64), one, &format!("step {step}, row {row}"));
            }
        }
        if let Some(row) = leaves {
            batch.leave(row).unwrap();
            alone.swap_remove(row);
        }
        assert_eq!(batch.len(), alone.len());
    }
    assert!(batch.push(&[1]).unwrap_err().to_string().contains("one a sequence"));
    while !batch.is_empty() {
        batch.leave(0).unwrap();
    }
    assert_eq!(batch.bytes(), 0);
    let _ = batch.join(&[1], 1).unwrap();
    let _ = batch.push(&[1]).unwrap();
    assert!(batch.push(&[1]).unwrap_err().to_string().contains("the room that the sequence has"));
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn smollm2_writes_what_transformers_writes() {
    let packaged = smollm2();
    let golden: serde_json::Value = serde_json::from_str(include_str!("../goldens/generation.json")).unwrap();
    let checkpoint = Checkpoint::open(&packaged).unwrap();
    let (model, tokenizer) = (load(&checkpoint), checkpoint.tokenizer().unwrap());
    for row in golden["rows"].as_array().unwrap() {
        // A lead of 1.5e-2 logits and more everywhere: rounding cannot change the choice.
        assert!(row["smallest_lead"].as_f64().unwrap() > 1e-2);
        let expected: Vec<u32> = serde_json::from_value(row["tokens"].clone()).unwrap();
        let prompt = tokenizer.encode(row["prompt"].as_str().unwrap()).unwrap();
        let mut generation = Generation::begin(&model, &checkpoint.config().genome, &prompt, expected.len()).unwrap();
        let mut greedy = Sampler::new(Sampling::GREEDY, 0).unwrap();
        let mut written = Vec::new();
        for _ in 0..expected.len() {
            let token = greedy.choose(&Vec::<f32>::try_from(generation.logits()).unwrap()).unwrap();
            written.push(token);
            generation.push(token).unwrap();
        }
        assert_eq!(written, expected, "{}", row["prompt"]);
    }
}

fn generate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = criadero(&[]);
    let output = command.args(["generate", TINY, "--threads", "1"]).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_writes_and_says_how_fast() {
    let (code, text, said) = generate(&["--prompt", "The llama", "--max-tokens", "20", "--ignore-eos"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("written: 20 tokens") && said.contains("keys and values"), "{said}");
    let (_, json, _) = generate(&["--prompt", "The llama", "--max-tokens", "20", "--ignore-eos", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["text"].as_str().unwrap(), text.trim_end_matches('\n'));
    assert_eq!(json["tokens"].as_array().unwrap().len(), 20);
    let drawn = |seed: &str| {
        let flags =
            ["--prompt", "a", "--max-tokens", "12", "--temperature", "1", "--top-p", "0.9", "--json", "--seed", seed];
        let (_, json, _) = generate(&flags);
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["tokens"].clone()
    };
    assert_eq!(drawn("3"), drawn("3"));
    assert_ne!(drawn("3"), drawn("4"));
    let (code, _, said) = generate(&["--prompt", "Who are you?", "--chat", "--max-tokens", "3"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn bad_input_is_named() {
    for (arguments, expected) in [
        (vec!["--prompt", "a", "--max-tokens", "1000000"], "the model's positions"),
        (vec!["--prompt", ""], "prompt"),
        (vec!["--prompt", "a", "--temperature=-1"], "temperature"),
        (vec!["--prompt", "a", "--top-p", "0"], "top-p"),
        (vec!["--prompt", "a", "--genome", "6x128*4"], "6x128"),
        (vec!["--prompt", "a", "--device", "cuda:7"], "unknown device"),
    ] {
        let (code, _, said) = generate(&arguments);
        assert!(code == Some(1) && said.contains(expected), "{arguments:?}: {said}");
    }
    let output = criadero(&[]).args(["generate", "/no/run#3", "--prompt", "a"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/run is no run"));
}
