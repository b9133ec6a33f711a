//! CUDA kernels without a card: each is compiled to machine code, and run thread by thread on the CPU against the plain operations
//! it replaces.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use criadero::checkpoint::quantize::{int8, rounded};
use criadero::kernels::compiler::SOURCES;
use criadero::kernels::int8::Int8Matrix;
use criadero::kernels::tree_attention::{Block, Sight};
use criadero::kernels::{self, log_probs, rms_norm, rotary, swiglu, tree_attention};
use criadero::space::Bits;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

#[test]
fn every_kernel_compiles_for_ampere_and_hopper() {
    for source in SOURCES {
        for architecture in ["sm_80", "sm_90"] {
            let compiled = source.compile(architecture).unwrap_or_else(|error| panic!("{error}"));
            assert!(compiled.code.starts_with(b"\x7fELF"), "a cubin is an ELF file");
            let code = String::from_utf8_lossy(&compiled.code);
            for entry in source.entries {
                assert!(code.contains(&format!(".text.{entry}")), "{entry} in {}", source.name);
                let made = format!("Compiling entry function '{entry}' for '{architecture}'");
                assert!(compiled.log.contains(&made), "{}", compiled.log);
            }
            // A spill would go through memory at every step of a loop.
            let spills: Vec<&str> = compiled.log.lines().filter(|line| line.contains("spill stores")).collect();
            assert_eq!(spills.len(), source.entries.len(), "{}", compiled.log);
            assert!(
                spills.iter().all(|line| line.contains(" 0 bytes spill stores, 0 bytes spill loads")),
                "{spills:?}"
            );
        }
    }
}

#[test]
fn a_source_that_does_not_compile_says_where() {
    let broken = kernels::compiler::Source { text: "__global__ void broken() {\n  nothing = 1;\n}\n", ..SOURCES[0] };
    let error = broken.compile("sm_90").unwrap_err();
    assert!(error.contains("does not compile for sm_90") && error.contains("rms_norm.cu(2)"), "{error}");
    // A card that the compiler does not know.
    let error = SOURCES[0].compile("sm_42").unwrap_err();
    assert!(error.contains("does not compile for sm_42"), "{error}");
}

/// The harness that runs kernels on the CPU, built once.
fn harness() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/kernels_on_cpu");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("on_cpu");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O1", "-o"]).arg(&program).arg(folder.join("on_cpu.cpp"));
        let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program
    })
}

/// An argument of a kernel. Tensors come back as the kernel left them.
enum Argument<'a> {
    Tensor(&'a mut Tensor),
    Null,
    Int(i64),
    Long(i64),
    Float(f64),
}
use Argument::{Float, Int, Long, Null, Tensor as Values};

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0_u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Runs a kernel on the CPU and updates its tensors.
fn launch(kernel: &str, grid: [i64; 2], threads: i64, mut arguments: Vec<Argument>) {
    let mut input = Vec::new();
    for argument in &arguments {
        match argument {
            Values(tensor) => {
                let bytes = bytes(tensor);
                input.push(b'b');
                input.extend((bytes.len() as i64).to_le_bytes());
                input.extend(bytes);
            }
            Null => input.push(b'0'),
            Int(number) => input.extend([&b"i"[..], &(*number as i32).to_le_bytes()].concat()),
            Long(number) => input.extend([&b"l"[..], &number.to_le_bytes()].concat()),
            Float(number) => input.extend([&b"f"[..], &(*number as f32).to_le_bytes()].concat()),
        }
    }
    let numbers = [grid[0], grid[1], threads].map(|number| number.to_string());
    let mut command = Command::new(harness());
    let piped = command.arg(kernel).args(numbers).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{kernel}: {:?}", output.status);
    let mut rest = output.stdout.as_slice();
    for argument in &mut arguments {
        if let Values(tensor) = argument {
            let (own, behind) = rest.split_at(tensor.numel() * tensor.kind().elt_size_in_bytes());
            **tensor = Tensor::from_data_size(own, &tensor.size(), tensor.kind());
            rest = behind;
        }
    }
    assert!(rest.is_empty());
}

fn random(size: &[i64], seed: i64) -> Tensor {
    // libtorch's generator belongs to all tests at once.
    let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
    let weights: Vec<f32> = (0..size.iter().product::<i64>()).map(|_| StandardNormal.sample(&mut rng)).collect();
    Tensor::from_slice(&weights).view(size).to_kind(Kind::BFloat16)
}

fn empty(size: &[i64], kind: Kind) -> Tensor {
    // What was never written must show.
    Tensor::ones(size, (kind, Device::Cpu)) * 77
}

/// The largest difference as a share of `scale`, entry by entry.
fn share(ours: &Tensor, reference: &Tensor, scale: &Tensor) -> f64 {
    let difference = (ours.to_kind(Kind::Double) - reference.to_kind(Kind::Double)).abs();
    (difference / scale.to_kind(Kind::Double).abs().clamp_min(1e-6)).max().double_value(&[])
}

#[test]
fn rms_norm_is_its_reference() {
    let weight = random(&[776], 3).to_kind(Kind::Float);
    let (mut hidden, mut delta, mut by) = (random(&[5, 776], 1), random(&[5, 776], 2), weight.copy());
    let (mut sum, mut normed) = (empty(&[5, 776], Kind::BFloat16), empty(&[5, 776], Kind::BFloat16));
    let tensors = vec![Values(&mut hidden), Values(&mut delta), Values(&mut by), Values(&mut sum), Values(&mut normed)];
    launch("rms_norm", [5, 1], 64, tensors.into_iter().chain([Int(776), Float(1e-5)]).collect());
    assert_eq!(sum, &hidden + &delta, "the sum is rounded as torch rounds it");
    let reference = rms_norm::reference(&sum, &weight, 1e-5, Kind::BFloat16);
    assert!(share(&normed, &reference, &reference) <= rms_norm::BOUND);

    let mut alone = empty(&[5, 776], Kind::BFloat16);
    let tensors = vec![Values(&mut hidden), Null, Values(&mut by), Null, Values(&mut alone), Int(776), Float(1e-5)];
    launch("rms_norm", [5, 1], 256, tensors);
    let reference = rms_norm::reference(&hidden, &weight, 1e-5, Kind::BFloat16);
    assert!(share(&alone, &reference, &reference) <= rms_norm::BOUND);
}

#[test]
fn rotary_is_its_reference() {
    for (k, g, e) in [(1, 1, 128), (3, 3, 64), (2, 2, 16)] {
        let (t, mut qkv) = (7, random(&[7, k, g + 2, e], 1));
        let before = qkv.copy();
        let angles = random(&[t, e / 2], 2).to_kind(Kind::Float);
        let angles = Tensor::cat(&[&angles, &angles], 1).view([t, 1, 1, e]);
        let (mut cosines, mut sines) = (angles.cos().to_kind(Kind::BFloat16), angles.sin().to_kind(Kind::BFloat16));
        let _ = sines.narrow(3, 0, e / 2).neg_();
        let blocks = (k * (g + 1) * (e / 16) + 31) / 32;
        let arguments = vec![Values(&mut qkv), Values(&mut cosines), Values(&mut sines), Int(k), Int(g), Int(e)];
        launch("rotary", [t, blocks], 32, arguments);
        let reference = rotary::reference(&before, &cosines, &sines);
        let halves = before.narrow(2, 0, g + 1).to_kind(Kind::Float).abs().view([t, k, g + 1, 2, e / 2]);
        let pair = halves.sum_dim_intlist([3_i64].as_slice(), false, Kind::Float).repeat([1, 1, 1, 2]);
        let [query, key, value] = [qkv.narrow(2, 0, g), qkv.select(2, g), qkv.select(2, g + 1)];
        assert!(share(&query, &reference.query, &pair.narrow(2, 0, g)) <= rotary::BOUND);
        assert!(share(&key, &reference.key, &pair.select(2, g)) <= rotary::BOUND);
        assert_eq!(value, reference.value, "values are not rotated");
        assert_ne!(key, before.select(2, g), "keys are");
    }
}

#[test]
fn swiglu_is_its_reference() {
    let (mut gate, mut up) = (random(&[9, 96], 1) * 6, random(&[9, 96], 2));
    let reference = swiglu::reference(gate.copy(), &up);
    launch("swiglu", [(9 * 96 / 8 + 31) / 32, 1], 32, vec![Values(&mut gate), Values(&mut up), Long(9 * 96 / 8)]);
    assert!(share(&gate, &reference, &reference) <= swiglu::BOUND);
}

#[test]
fn log_probs_are_their_reference() {
    let (r, v) = (6, 1001);
    let mut logits = random(&[r, v], 1) * 8;
    // Two equally likely tokens: the first one counts.
    let _ = logits.narrow(0, 2, 1).narrow(1, 40, 1).fill_(60.0);
    let _ = logits.narrow(0, 2, 1).narrow(1, 700, 1).fill_(60.0);
    let (rows, mut tokens) = (vec![0, 0, 2, 2, 2, 5], vec![0, 1000, 40, 700, 3, 17]);
    tokens[5] = logits.get(5).argmax(0, false).int64_value(&[]);
    let mut first = Tensor::from_slice(&[0_i32, 2, 2, 5, 5, 5, 6]);
    let mut of = Tensor::from_slice(&tokens).to_kind(Kind::Int);
    let (mut found, mut best) = (empty(&[6], Kind::Float), empty(&[6], Kind::Uint8));
    let arguments =
        vec![Values(&mut logits), Values(&mut first), Values(&mut of), Values(&mut found), Values(&mut best)];
    launch("log_probs", [r, 1], 64, arguments.into_iter().chain([Int(v)]).collect());
    let reference = log_probs::reference(&logits, &rows, &tokens, true);
    assert!((&found - reference.log_probs).abs().max().double_value(&[]) <= log_probs::BOUND, "{found}");
    assert_eq!(Vec::<u8>::try_from(&best).unwrap(), [0, 0, 1, 0, 0, 1]);
    assert_eq!(best.to_kind(Kind::Bool), reference.best.unwrap());

    let _ = logits.narrow(0, 5, 1).narrow(1, 9, 1).fill_(f64::INFINITY);
    let arguments =
        vec![Values(&mut logits), Values(&mut first), Values(&mut of), Values(&mut found), Values(&mut best)];
    launch("log_probs", [r, 1], 64, arguments.into_iter().chain([Int(v)]).collect());
    assert!(!found.double_value(&[5]).is_finite(), "a row that is not finite has no log-probability");
}

#[test]
fn int8_weights_are_the_blocks_values() {
    let weights = random(&[5, 128], 1).to_kind(Kind::Float);
    let (mut quants, mut scales) = int8("w", &weights).unwrap();
    let matrix = Int8Matrix { quants: quants.copy(), scales: scales.copy() };
    for (rows, columns) in [(5, 128), (3, 96)] {
        let mut made = empty(&[rows, columns], Kind::BFloat16);
        let arguments =
            vec![Values(&mut quants), Values(&mut scales), Values(&mut made), Long(rows), Int(columns), Int(128)];
        launch("dequantize_int8", [1, 1], 64, arguments);
        assert_eq!(made, matrix.reference(rows, columns, Kind::BFloat16), "bit for bit");
        let whole = rounded("w", &weights, Bits::Q8_0).unwrap();
        let part = whole.narrow(0, 0, rows).narrow(1, 0, columns);
        assert_eq!(matrix.reference(rows, columns, Kind::Float), part, "and the file's own");
    }
}

/// A random forest in depth-first order: each token's parent.
fn forest(tokens: usize, stay: f64, rng: &mut ChaCha8Rng) -> Vec<Option<usize>> {
    let mut path: Vec<usize> = Vec::new();
    let parent = |token| {
        if rng.random_bool(0.03) {
            path.clear();
        }
        while path.len() > 1 && !rng.random_bool(stay) {
            path.pop();
        }
        let parent = path.last().copied();
        path.push(token);
        parent
    };
    (0..tokens).map(parent).collect()
}

/// The forest as the kernel and, in one dense block, as the plain operations see it.
fn sight(parents: &[Option<usize>], group: i64) -> Sight {
    let t = parents.len();
    let mut ends: Vec<i32> = (1..=t as i32).collect();
    for token in (0..t).rev() {
        if let Some(parent) = parents[token] {
            ends[parent] = ends[parent].max(ends[token]);
        }
    }
    let mut roots = vec![0; t];
    let mut seen = vec![f32::NEG_INFINITY; t * t];
    for token in 0..t {
        let mut at = Some(token);
        while let Some(key) = at {
            seen[token * t + key] = 0.0;
            roots[token] = key as i32;
            at = parents[key];
        }
    }
    let mask = Tensor::from_slice(&seen).view([t as i64, t as i64]).repeat([group, 1]);
    let blocks = vec![Block { start: 0, len: t as i64, ancestors: None, mask: Some(mask) }];
    Sight { blocks, ends: Tensor::from_slice(&ends), roots: Tensor::from_slice(&roots), windowed: false }
}

#[test]
fn tree_attention_is_its_reference() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let forests = [
        (forest(200, 0.8, &mut rng), 2, 1, 64),
        (forest(150, 0.97, &mut rng), 1, 3, 128),
        ((0..70).map(|token: usize| token.checked_sub(1)).collect(), 1, 2, 64),
        (vec![None; 130], 1, 1, 64),
        (vec![None], 1, 1, 128),
    ];
    for (parents, k, g, e) in forests {
        let (t, h) = (parents.len() as i64, k * g);
        let mut sight = sight(&parents, g);
        let mut qkv = random(&[t, k, g + 2, e], t);
        let mut context = empty(&[t, h * e], Kind::BFloat16);
        let sizes = [Int(t), Int(k), Int(g), Float(1.0 / (e as f64).sqrt())];
        let tensors = [Values(&mut qkv), Values(&mut sight.ends), Values(&mut sight.roots), Values(&mut context)];
        let arguments = tensors.into_iter().chain(sizes).collect();
        launch(&format!("tree_attention_{e}"), [(t + 63) / 64, h], 128, arguments);
        // The plain operations in float32 on the same bfloat16 values: what both approximate.
        let exact = qkv.to_kind(Kind::Float);
        let [query, key, value] = [exact.narrow(2, 0, g), exact.select(2, g), exact.select(2, g + 1)];
        let largest = value.abs().max();
        let heads = rotary::Heads { query, key, value, packed: None };
        let reference = tree_attention::reference(&heads, &sight);
        let error = share(&context, &reference, &largest);
        assert!(error <= tree_attention::BOUND, "{t} tokens, {h} heads of {e}: {error}");
    }
}
