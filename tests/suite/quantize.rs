//! Quantized networks: what is scored is what is shipped.

use std::fs;
use std::path::Path;

use criadero::checkpoint::export::{Gguf, Hf, HfPadded};
use criadero::checkpoint::quantize::rounded;
use criadero::checkpoint::{Checkpoint, Dtype, Exporter, LayerTensor, TensorName, export, hf, synthetic};
use criadero::model::{Llama, TokenTree};
use criadero::run::{Front, FrontPoint, QuantizedFront, RunSettings};
use criadero::space::{Bits, Cost, Extras, Genome, ModelShape};
use tch::{Device, Kind, Tensor};

use crate::command::{criadero, fail, said, succeed};

use crate::goldens::{TINY, copy_of_tiny, load, tiny};

/// Every bits of the tiny model's rows of 64, fallbacks of K-quants, and halves that are not there.
const NETWORKS: [&str; 7] = [
    "4x128@8*4",
    "E@4:4x128@4*4:H@8",
    "E@q4_1:4x96@q4_1:2x128@8:4x64:2x32@4",
    "4x128@q4_k:4x128@q5_k:2x64@q6_k:-",
    "4x128@8:0x64@4:2x0@8:0x96",
    "4x128@q5_0*2:4x128@q5_1*2:H@4",
    "E@q4_k:4x128@8*4:H@q6_k",
];

fn logits(model: &Llama, genome: &Genome) -> Tensor {
    let batch = model.batch(&TokenTree::chain(&[1, 5, 9, 300, 44, 7, 8, 2, 511, 0])).unwrap();
    tch::no_grad(|| model.network(genome).unwrap().forward(&batch))
}

#[test]
fn scores_exactly_what_a_gguf_will_hold() {
    let model = load(&tiny());
    for text in NETWORKS {
        let genome: Genome = text.parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = Checkpoint::open(export(&tiny(), &genome, &Gguf, None, dir.path()).unwrap()).unwrap();
        let kept: Vec<usize> = genome.kept().map(|(layer, _)| layer).collect();
        for name in file.config().tensors() {
            let (TensorName::Layer(_, LayerTensor::InputNorm | LayerTensor::PostNorm) | TensorName::FinalNorm) = name
            else {
                let (parent, bits) = match name {
                    TensorName::Layer(layer, tensor) => {
                        (TensorName::Layer(kept[layer], tensor), genome.genes()[kept[layer]].bits)
                    }
                    TensorName::Embedding => (name, genome.ends().embedding),
                    _ => (name, genome.ends().head),
                };
                let held = file.tensor(name, Kind::Float).unwrap();
                let whole = model.tensor(parent).unwrap();
                let (rows, columns) = (held.size()[0], held.size()[1]);
                let mut ours = whole.narrow(0, 0, rows.min(whole.size()[0])).narrow(1, 0, columns);
                if held.abs().max().double_value(&[]) == 0.0 {
                    continue; // a filler
                }
                match bits.stored(columns as u64).unwrap() {
                    Bits::F16 => ours = ours.to_kind(Kind::Half).to_kind(Kind::Float),
                    bits => ours = rounded("w", &ours, bits).unwrap(),
                }
                assert_eq!(held, ours, "{text}: {name:?}");
                continue;
            };
        }
        // The same function, and where nothing is left unquantized, which files hold as F16, the same bits.
        let (ours, theirs) = (logits(&model, &genome), logits(&load(&file), &file.config().genome));
        let difference = (&ours - &theirs).abs().max().double_value(&[]);
        let whole = genome.kept().all(|(_, gene)| gene.bits != Bits::F16) && genome.ends().head != Bits::F16;
        let exact = whole && genome.ends().embedding != Bits::F16;
        assert!(if exact { difference == 0.0 } else { difference < 5e-3 }, "{text}: {difference}");
        assert!(ours.isfinite().all().int64_value(&[]) == 1);
    }
}

/// Large enough for K-quants.
const SHAPE: ModelShape = ModelShape {
    layers: 3,
    hidden: 256,
    heads: 4,
    kv_heads: 2,
    head_dim: 128,
    mlp: 512,
    vocab: 300,
    tied: true,
    extras: Extras::NONE,
};

/// A checkpoint in float32, most of whose weights no bfloat16 is equal to.
fn in_float32(dir: &Path) -> Checkpoint {
    let config = synthetic::config(SHAPE, Dtype::F32);
    let tensor = |name: TensorName| {
        let sizes = config.tensor_shape(name).unwrap();
        Ok(synthetic::tensor(name, &sizes, 3, Device::Cpu, Kind::Float)? * 1.003)
    };
    hf::write(&dir.join("model"), &config, &tensor, &synthetic::byte_tokenizer(), Dtype::F32).unwrap();
    Checkpoint::open(dir.join("model")).unwrap()
}

/// Where a device computes in bfloat16, blocks are made of what the file holds, not of what is left of it.
#[test]
fn blocks_are_made_of_the_exact_weights() {
    let dir = tempfile::tempdir().unwrap();
    let parent = in_float32(dir.path());
    let of = |checkpoint: &Checkpoint, genome: &Genome| {
        let model = Llama::load(checkpoint, Device::Cpu, Kind::BFloat16).unwrap();
        let batch = model.batch(&TokenTree::chain(&[1, 5, 9, 200, 44, 7])).unwrap();
        tch::no_grad(|| model.network(genome).unwrap().forward(&batch))
    };
    let genome: Genome = "E@8:4x512@4*2:2x256@q6_k".parse().unwrap();
    let plain = "4x512*2:2x256".parse().unwrap();
    let values = export(&parent, &genome, &Hf, None, &dir.path().join("values")).unwrap();
    let ours = of(&parent, &genome);
    assert_eq!(ours, of(&Checkpoint::open(values).unwrap(), &plain), "the values of the file's blocks");
    let half = export(&parent, &"4x512*3".parse().unwrap(), &Hf, Some(Dtype::BF16), &dir.path().join("half"));
    assert_ne!(ours, of(&Checkpoint::open(half.unwrap()).unwrap(), &genome), "other blocks of rounded weights");
}

#[test]
fn k_quants_hold_rows_of_256() {
    let dir = tempfile::tempdir().unwrap();
    let parent = in_float32(dir.path());
    let ours = load(&parent);
    // Narrow prefixes of whole blocks, a width that falls back beside one that does not, and every K-quant.
    for text in ["E@q6_k:4x512@q2_k:2x256@q3_k:4x512@q4_k", "E@q4_k:4x256@q5_k:4x384@q6_k:2x512@q6_k"] {
        let genome: Genome = text.parse().unwrap();
        let out = dir.path().join("out.gguf");
        let file = Checkpoint::open(export(&parent, &genome, &Gguf, None, &out).unwrap()).unwrap();
        assert_eq!(file.weight_bytes(), Cost::of(&SHAPE, &genome).weight_bytes, "{text}");
        let batch = |model: &Llama| model.batch(&TokenTree::chain(&[1, 5, 9, 200, 44, 7])).unwrap();
        let here = tch::no_grad(|| ours.network(&genome).unwrap().forward(&batch(&ours)));
        let theirs = load(&file);
        let there = tch::no_grad(|| theirs.whole().unwrap().forward(&batch(&theirs)));
        assert_eq!((here - there).abs().max().double_value(&[]), 0.0, "{text}");
    }
}

#[test]
fn a_directory_holds_the_values_of_the_blocks() {
    let model = load(&tiny());
    for text in NETWORKS {
        let genome: Genome = text.parse().unwrap();
        for format in [&Hf as &dyn Exporter, &HfPadded] {
            let dir = tempfile::tempdir().unwrap();
            let written = Checkpoint::open(export(&tiny(), &genome, format, None, dir.path()).unwrap()).unwrap();
            let theirs = logits(&load(&written), &written.config().genome);
            let difference = (logits(&model, &genome) - theirs).abs().max().double_value(&[]);
            // Padded rows are longer, so that sums are added in another order.
            assert!(difference < if format.name().0 == "hf" { 1e-6 } else { 1e-4 }, "{text}: {difference}");
        }
    }
}

#[test]
fn fewer_bits_change_the_function_more() {
    let model = load(&tiny());
    let whole = logits(&model, &"4x128*4".parse().unwrap());
    let distance = |text: &str| -> f64 {
        let of = logits(&model, &text.parse().unwrap());
        (of - &whole).abs().mean(Kind::Float).double_value(&[])
    };
    let distances = ["4x128@8*4", "4x128@q5_0*4", "4x128@4*4"].map(distance);
    assert!(distances[0] > 0.0 && distances.is_sorted(), "{distances:?}");
    assert!(distance("E@4:4x128*4") > 0.0 && distance("4x128*4:H@4") > 0.0);
}

/// Questions that a model of random weights answers by chance.
fn task(dir: &Path) -> String {
    let path = dir.join("task.jsonl");
    let row = |place: usize| {
        format!(
            "{{\"context\": \"Item {place} is\", \"choices\": [\" red\", \" blue {place}\"], \"gold\": {}}}\n",
            place % 2
        )
    };
    fs::write(&path, (0..40).map(row).collect::<String>()).unwrap();
    path.display().to_string()
}

/// A search on the tiny model.
fn search(dir: &Path, space: &str, task: &str, name: &str) -> String {
    let (nll, run) = (format!("choice_nll:{task}"), dir.join(name).display().to_string());
    let mut search = criadero(&["search", space, "--model", TINY, "--objective", &nll, "--objective", "weight_bytes"]);
    search.args(["--evals", "12", "--population", "6", "--threads", "1", "--out", &run]);
    succeed(search);
    run
}

#[test]
fn a_finished_front_is_scored_again_in_fewer_bits() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    let run = search(dir.path(), "tiny", &task, "run");
    let said = succeed(criadero(&["quantize", &run, "--bits", "8", "--threads", "1"]));
    assert!(said.contains("mean of the front"), "{said}");
    let out = dir.path().join("run/quantized-8");
    let quantized = QuantizedFront::read(&out).unwrap();
    let before = Front::read_json(&dir.path().join("run/front.json")).unwrap();
    assert_eq!(quantized.points.len(), before.points.len());
    for point in &quantized.points {
        let whole = before.points.iter().find(|whole| whole.id == point.id).unwrap();
        assert_eq!(point.changes[0].before, whole.held_out[0].value, "the front's own held-out score");
        assert_eq!(point.genome.unquantized(), whole.genome);
        assert_eq!(
            (point.bytes_before, point.bytes < point.bytes_before),
            (whole.value("weight_bytes").unwrap() as u64, true)
        );
        // What `eval` says of the quantized network on the same items.
        let mut eval = criadero(&["eval", TINY, "--task", &task, "--split", "held-out", "--json", "--threads", "1"]);
        eval.args(["--genome", &point.genome.to_string()]);
        let eval: serde_json::Value = serde_json::from_str(&succeed(eval)).unwrap();
        assert_eq!(eval["acc"].as_f64(), Some(point.changes[0].after), "{}", point.genome);
        // And the size of the file.
        let file = dir.path().join("one.gguf");
        let pick = point.id.to_string();
        let mut export = criadero(&["export", &run, "--pick", &pick, "--bits", "8", "--format", "gguf", "--out"]);
        export.arg(&file);
        succeed(export);
        assert_eq!(Checkpoint::open(&file).unwrap().weight_bytes(), point.bytes);
    }
    for file in ["quantized.csv", "quantized.svg", "quantized.png"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let drawn = fs::read(out.join("quantized.png")).unwrap();
    fs::remove_file(out.join("quantized.png")).unwrap();
    succeed(criadero(&["plot", &out.display().to_string()]));
    assert!(fs::read(out.join("quantized.png")).unwrap() == drawn, "drawn again from quantized.json");
}

#[test]
fn bits_of_one_network_are_searched_within_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    let out = dir.path().join("mixed");
    let mut command = criadero(&["quantize", TINY, "--bits", "mixed", "--budget", "300k", "--embedding-bits", "8"]);
    command.args(["--task", &task]);
    command.args(["--evals", "12", "--population", "6", "--threads", "1", "--out"]).arg(&out);
    let (_, beside) = said(command);
    assert!(beside.contains("--pick 'weight_bytes<=300k'"), "{beside}");
    let front = Front::read_json(&out.join("front.json")).unwrap();
    assert!(!front.points.is_empty());
    for point in &front.points {
        assert_eq!(point.genome.unquantized().to_string(), "4x128*4", "bits are all that differs");
        assert!(point.value("weight_bytes").unwrap() <= 300_000.0);
        assert_eq!(point.genome.ends().embedding, Bits::Q8_0);
    }
    // The same search from a run, on one of its networks.
    let run = search(dir.path(), "tiny", &task, "run");
    let again = dir.path().join("again");
    let mut command =
        criadero(&["quantize", &run, "--pick", "1", "--bits", "mixed", "--budget", "10M", "--choices", "8,q4_1"]);
    command.args(["--evals", "6", "--population", "6", "--threads", "1", "--out"]).arg(&again);
    succeed(command);
    let smallest = Front::read_json(&Path::new(&run).join("front.json")).unwrap();
    let smallest = &smallest.points.iter().find(|point| point.id == 1).unwrap().genome;
    let front = Front::read_json(&again.join("front.json")).unwrap();
    assert!(front.points.iter().all(|point| point.genome.unquantized() == *smallest));
    let ends = |point: &FrontPoint| [point.genome.ends().embedding, point.genome.ends().head];
    assert!(front.points.iter().all(|point| ends(point).iter().all(|bits| [Bits::Q8_0, Bits::Q4_1].contains(bits))));
}

#[test]
fn bits_are_searched_as_the_run_was() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    let paragraph = "A llama and a fox went up a hill, and the fox came down first.\n\n";
    fs::write(&text, paragraph.repeat(600)).unwrap();
    let run = dir.path().join("run").display().to_string();
    let objective = format!("perplexity:{}", text.display());
    let mut search = criadero(&["search", "tiny", "--model", TINY, "--objective", &objective, "--objective", "params"]);
    search.args(["--limit", "3", "--held-out", "2", "--evals", "6", "--population", "6", "--threads", "1"]);
    search.args(["--out", &run]);
    succeed(search);
    let again = dir.path().join("again");
    let mut mixed = criadero(&["quantize", &run, "--pick", "params<=10M", "--bits", "mixed", "--budget", "10M"]);
    mixed.args(["--evals", "6", "--population", "6", "--threads", "1", "--out"]).arg(&again);
    succeed(mixed);
    let [run, again] = [Path::new(&run), &again].map(|dir| RunSettings::read(dir).unwrap().unwrap());
    assert_eq!(again.objectives, [objective.as_str(), "weight_bytes"]);
    assert_eq!(again.tasks, run.tasks, "the same items");
}

/// Of a row of 64 weights no K-quant is made; rows of the embedding are no longer.
#[test]
fn a_fallback_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    let run = search(dir.path(), "tiny", &task, "run");
    let said = |arguments: &[&str]| {
        let output =
            criadero(&["quantize", &run, "--threads", "1", "--held-out", "4"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let note = said(&["--bits", "q4_k"]);
    assert!(note.contains("no whole blocks of Q4_K are stored in Q5_0, as llama.cpp does"), "{note}");
    assert_eq!(QuantizedFront::read(&Path::new(&run).join("quantized-q4_k")).unwrap().format, "Q5_0");
    let note = said(&["--bits", "q5_k", "--embedding-bits", "8"]);
    assert!(note.contains("Q5_K are stored in Q5_1") && !note.contains("Q8_0"), "{note}");
    let note = said(&["--bits", "4", "--embedding-bits", "8"]);
    assert!(!note.contains("llama.cpp"), "{note}");
    let other = QuantizedFront::read(&Path::new(&run).join("quantized-4-embedding-8")).unwrap();
    assert_eq!(other.format, "Q4_0; ends Q8_0");
}

/// Whatever becomes of weights that were in blocks, whoever quantizes them again is told.
#[test]
fn a_quantized_parent_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let text = dir.path().join("text.txt");
    fs::write(&text, "A llama and a fox went up a hill, and the fox came down first. ".repeat(60)).unwrap();
    let write = |model: &str, genome: &str, format: &str, out: &str| {
        let output =
            criadero(&["export", model, "--genome", genome, "--format", format, "--out", out]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // One whose first layer and ends are not in blocks, a directory with the values of blocks, and what is made of them.
    let [mixed, values, supernet, plain] = ["mixed.gguf", "values", "supernet", "plain.gguf"].map(at);
    let notes = write(TINY, "4x128:4x128@4*3", "gguf", &mixed);
    assert!(!notes.contains("note: "), "a float parent is not quantized twice: {notes}");
    write(TINY, "4x128@8*4", "hf", &values);
    let mut rank = criadero(&["rank", &mixed, "--out", &supernet, "--loss-tokens", "0", "--text"]);
    rank.arg(&text);
    succeed(rank);
    write(&supernet, "4x128*4", "gguf", &plain);
    for model in [&mixed, &values, &supernet, &plain] {
        let note = write(model, "4x128@4*4", "gguf", &at("again.gguf"));
        assert!(note.contains("is quantized itself, or was once"), "{model}: {note}");
        fs::remove_file(at("again.gguf")).unwrap();
    }
}

#[test]
fn a_search_with_bits_is_reported_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let space = dir.path().join("space.yaml");
    let tiny = include_str!("../../search-spaces/tiny.yaml");
    fs::write(&space, format!("{tiny}bits: [16, 8, 4]\nembedding_bits: 8\nhead_bits: q4_1\n")).unwrap();
    let run = search(dir.path(), &space.display().to_string(), &task(dir.path()), "run");
    let front = Front::read_json(&Path::new(&run).join("front.json")).unwrap();
    assert!(front.points.iter().all(|point| point.genome.to_string().starts_with("E@8:")));
    assert!(front.points.iter().any(|point| point.genome.genes().iter().any(|gene| !gene.bits.is_full())));
    succeed(criadero(&["plot", &run]));
    let svg = fs::read_to_string(Path::new(&run).join("plots/front.svg")).unwrap();
    assert!(svg.contains("bytes of the weights"), "{svg}");
    assert!(fs::read_to_string(Path::new(&run).join("plots/heatmap.svg")).unwrap().contains("bits"));
    let error = fail(criadero(&["quantize", &run, "--bits", "8"]));
    assert!(error.contains("is quantized already"), "{error}");
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let space = dir.path().join("space.yaml");
    let shape = "shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n";
    fs::write(&space, format!("{shape}heads: [4]\nmlp: [100, 128]\nbits: [8]\n")).unwrap();
    let error = fail(criadero(&["inspect", &space.display().to_string()]));
    assert!(error.contains("line 4") && error.contains("the nearest are 96 and 128"), "{error}");
    for (arguments, expected) in [
        (vec!["--bits", "8"], "--task"),
        (vec!["--bits", "16", "--task", "piqa"], "what there is already"),
        (vec!["--bits", "8", "--task", "piqa", "--budget", "1M"], "for `--bits mixed`"),
        (vec!["--bits", "mixed", "--task", "piqa"], "--budget"),
        (vec!["--bits", "mixed", "--task", "piqa", "--budget", "1M", "--pick", "knee"], "is no run"),
        (vec!["--bits", "q3_k", "--task", "piqa"], "hidden size 64, for Q3_K"),
        (vec!["--bits", "mixed", "--task", "piqa", "--budget", "60MiB"], "--budget"),
        (vec!["--bits", "mixed", "--task", "piqa", "--budget", "10k"], "in its fewest bits"),
    ] {
        let mut command = criadero(&["quantize", TINY, "--out"]);
        command.arg(&out).args(&arguments);
        let error = fail(command);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    let output = criadero(&["quantize", TINY, "--bits", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown bits `5`; known: 16, 8"));
    assert!(!out.exists() || fs::read_dir(&out).unwrap().count() <= 1, "nothing but a space was written");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let shape = tiny();
    let poisoned = |name: TensorName| {
        let tensor = shape.tensor(name, Kind::Float)?;
        if name == TensorName::Layer(1, LayerTensor::Up) {
            let _ = tensor.narrow(0, 0, 1).fill_(f64::NAN);
        }
        Ok(tensor)
    };
    let model = dir.path().join("model");
    let files = shape.tokenizer_files().unwrap();
    let written = hf::write(&model, shape.config(), &poisoned, &files, shape.config().dtype);
    assert!(written.unwrap_err().to_string().contains("not a finite number"), "we write no such file");
    // So the file is spoilt by hand: all bits set is NaN in every float format.
    fs::create_dir_all(&model).unwrap();
    copy_of_tiny(&model);
    let file = model.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let start = tensors["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[header + start..header + start + 8].fill(0xff);
    fs::write(&file, bytes).unwrap();
    let model = model.display().to_string();
    let out = dir.path().join("out.gguf");
    let mut export = criadero(&["export", &model, "--genome", "4x128@8*4", "--format", "gguf", "--out"]);
    export.arg(&out);
    let error = fail(export);
    assert!(error.contains("blk.1.ffn_up.weight") && error.contains("NaN") && !out.exists(), "{error}");
    let eval = criadero(&["eval", &model, "--task", &task(dir.path()), "--genome", "4x128@8*4"]);
    let error = fail(eval);
    assert!(error.contains("model.layers.1.mlp.up_proj.weight") && error.contains("NaN"), "{error}");
}

#[test]
fn the_model_of_a_run_may_move_and_is_known_by_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    let [model, moved] = ["model", "moved"].map(|name| dir.path().join(name));
    fs::create_dir(&model).unwrap();
    copy_of_tiny(&model);
    let run = dir.path().join("run").display().to_string();
    let objective = format!("choice_nll:{task}");
    let mut search = criadero(&[
        "search",
        "tiny",
        "--model",
        model.to_str().unwrap(),
        "--objective",
        &objective,
        "--objective",
        "params",
    ]);
    search.args([
        "--limit",
        "4",
        "--held-out",
        "4",
        "--evals",
        "6",
        "--population",
        "6",
        "--threads",
        "1",
        "--out",
        &run,
    ]);
    succeed(search);
    fs::rename(&model, &moved).unwrap();
    let network = format!("{run}#params<=10M");
    let out = |name: &str| dir.path().join(name).display().to_string();
    let (hf, mixed, distilled) = (out("hf"), out("mixed"), out("distilled"));
    let commands: [&[&str]; 4] = [
        &["export", &run, "--pick", "params<=10M", "--format", "hf", "--out", &hf],
        &["generate", &network, "--prompt", "a", "--max-tokens", "2", "--threads", "1"],
        &["quantize", &run, "--bits", "8", "--threads", "1"],
        &[
            "quantize",
            &run,
            "--pick",
            "params<=10M",
            "--bits",
            "mixed",
            "--budget",
            "10M",
            "--evals",
            "4",
            "--population",
            "4",
            "--out",
            &mixed,
        ],
    ];
    for command in commands {
        let error = fail(criadero(command));
        assert!(error.contains("say where to with --model"), "{error}");
        let error = fail(criadero(&[command, &["--model", "smollm2-135m-not-there"]].concat()));
        assert!(error.contains("smollm2-135m-not-there"), "{error}");
        succeed(criadero(&[command, &["--model", moved.to_str().unwrap()]].concat()));
    }
    let other = out("other");
    succeed(criadero(&["export", TINY, "--genome", "4x128*4", "--dtype", "f16", "--format", "hf", "--out", &other]));
    let error = fail(criadero(&[commands[1], &["--model", &other]].concat()));
    assert!(error.contains("it is not the model that") && error.contains("digest"), "{error}");
    let error = fail(criadero(&["generate", TINY, "--model", &other, "--prompt", "a"]));
    assert!(error.contains("--model says where the model of a RUN#ID lies"), "{error}");
    let distill = ["distill", &run, "--pick", "params<=10M", "--data", &task, "--out", &distilled];
    assert!(fail(criadero(&distill)).contains("say where to with --model"));
}
