//! Checkpoints end to end: the tiny LLaMA that transformers wrote, its exports read back, and SmolLM2 from GGUF.

use std::fs;

use criadero::Result;
use criadero::checkpoint::export::{Gguf, Hf, HfPadded};
use criadero::checkpoint::{
    Checkpoint, Dtype, EXPORTERS, Exporter, LayerTensor, Llama3Scaling, LlamaConfig, RopeScaling, TensorName, export,
    hf,
};
use criadero::space::{Cost, Genome};
use tch::{Kind, Tensor};

use crate::goldens::{smollm2, tiny};

fn whole(checkpoint: &Checkpoint, layer: usize, tensor: LayerTensor) -> Tensor {
    checkpoint.tensor(TensorName::Layer(layer, tensor), Kind::Float).unwrap()
}

fn is_zero(tensor: &Tensor) -> bool {
    tensor.abs().max().double_value(&[]) == 0.0
}

#[test]
fn reads_what_transformers_wrote() {
    let tiny = tiny();
    let config = tiny.config();
    assert_eq!(config.genome.to_string(), "4x128*4");
    assert_eq!((config.shape.kv_heads, config.shape.head_dim, config.shape.vocab), (2, 16, 512));
    assert_eq!((config.dtype, config.shape.tied), (Dtype::BF16, false));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(0), &[1][..]));
    let params: u64 = config.tensors().iter().map(|&name| tiny.tensor(name, Kind::Float).unwrap().numel() as u64).sum();
    assert_eq!(params, Cost::of(&config.shape, &config.genome).params);
    let q = tiny.tensor(TensorName::Layer(0, LayerTensor::Q), Kind::BFloat16).unwrap();
    assert_eq!((q.size(), q.kind()), (vec![64, 64], Kind::BFloat16));
    assert!(tiny.tensor(TensorName::Layer(4, LayerTensor::Q), Kind::Float).is_err());
}

#[test]
fn tokenizes_as_transformers_does() {
    let tokenizer = tiny().tokenizer().unwrap();
    let golden = fs::read(tiny().path().join("golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let texts = golden["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 4);
    for row in texts {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(0), Some(1), false));
}

#[test]
fn digests_the_content_and_not_the_path() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(tiny().path().join(file), dir.path().join(file)).unwrap();
    }
    let copy = || Checkpoint::open(dir.path()).unwrap().digest().unwrap();
    assert_eq!(copy(), tiny().digest().unwrap());
    let mut bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    assert_ne!(copy(), tiny().digest().unwrap());
}

#[test]
fn exports_the_prefixes_of_the_kept_layers() {
    let dir = tempfile::tempdir().unwrap();
    let genome: Genome = "2x64:-:0x96:4x0".parse().unwrap();
    let parent = tiny();
    let written = export(&parent, &genome, &Hf, None, &dir.path().join("hf")).unwrap();
    let child = Checkpoint::open(&written).unwrap();
    assert_eq!(child.config().genome.to_string(), "2x64:0x96:4x0");
    assert_eq!(child.config().dtype, Dtype::BF16, "the parent's");
    assert_eq!(whole(&child, 0, LayerTensor::Q), whole(&parent, 0, LayerTensor::Q).narrow(0, 0, 32));
    assert_eq!(whole(&child, 0, LayerTensor::K), whole(&parent, 0, LayerTensor::K).narrow(0, 0, 16));
    assert_eq!(whole(&child, 0, LayerTensor::O), whole(&parent, 0, LayerTensor::O).narrow(1, 0, 32));
    assert_eq!(whole(&child, 1, LayerTensor::Down), whole(&parent, 2, LayerTensor::Down).narrow(1, 0, 96));
    assert_eq!(whole(&child, 2, LayerTensor::V), whole(&parent, 3, LayerTensor::V));
    assert!(child.tensor(TensorName::Layer(1, LayerTensor::InputNorm), Kind::Float).is_err());
    assert!(written.join("modeling_criadero.py").is_file());
    let parents = fs::read(parent.path().join("tokenizer.json")).unwrap();
    assert_eq!(fs::read(written.join("tokenizer.json")).unwrap(), parents, "byte for byte");

    // A child is a parent as good as any: cut it again.
    let twice = export(&child, &"2x32:0x96:-".parse().unwrap(), &Hf, None, &dir.path().join("2")).unwrap();
    let twice = Checkpoint::open(twice).unwrap();
    assert_eq!(twice.config().genome.to_string(), "2x32:0x96");
    assert_eq!(whole(&twice, 0, LayerTensor::Up), whole(&parent, 0, LayerTensor::Up).narrow(0, 0, 32));
}

#[test]
fn exports_uniform_networks_as_plain_llama() {
    let dir = tempfile::tempdir().unwrap();
    let written = export(&tiny(), &"4x64*2:-:4x64".parse().unwrap(), &Hf, None, &dir.path().join("o")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(written.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["model_type"], "llama");
    assert_eq!((&config["num_hidden_layers"], &config["intermediate_size"]), (&3.into(), &64.into()));
    assert!(config.get("auto_map").is_none() && !written.join("modeling_criadero.py").exists());
}

#[test]
fn pads_with_zeros_behind_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let parent = tiny();
    let genome: Genome = "2x64:-:0x96:4x0".parse().unwrap();
    let written = export(&parent, &genome, &HfPadded, Some(Dtype::F32), &dir.path().join("o")).unwrap();
    let child = Checkpoint::open(written).unwrap();
    assert_eq!(child.config().genome.to_string(), "4x128*3");
    let o = whole(&child, 0, LayerTensor::O);
    assert_eq!(o.narrow(1, 0, 32), whole(&parent, 0, LayerTensor::O).narrow(1, 0, 32));
    assert!(is_zero(&o.narrow(1, 32, 32)));
    assert!(is_zero(&whole(&child, 1, LayerTensor::O)) && is_zero(&whole(&child, 2, LayerTensor::Down)));
    assert_eq!(whole(&child, 2, LayerTensor::Q), whole(&parent, 3, LayerTensor::Q));
}

#[test]
fn fills_what_llama_cpp_needs_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let parent = tiny();
    let genome: Genome = "0x64:-:2x0:0x96".parse().unwrap();
    let written = export(&parent, &genome, &Gguf, Some(Dtype::F32), dir.path()).unwrap();
    assert_eq!(written, dir.path().join("model.gguf"));
    let child = Checkpoint::open(&written).unwrap();
    assert_eq!(child.config().genome.to_string(), "2x64:2x32:0x96");
    assert_eq!(child.config().shape.head_dim, 16);
    assert_eq!(child.config().rms_norm_eps, 1e-5);
    for tensor in [LayerTensor::Q, LayerTensor::K, LayerTensor::V, LayerTensor::O] {
        assert!(is_zero(&whole(&child, 0, tensor)));
    }
    for tensor in [LayerTensor::Gate, LayerTensor::Up, LayerTensor::Down] {
        assert!(is_zero(&whole(&child, 1, tensor)));
    }
    // Query and key rows went to llama.cpp's order and back.
    assert_eq!(whole(&child, 1, LayerTensor::Q), whole(&parent, 2, LayerTensor::Q).narrow(0, 0, 32));
    assert_eq!(whole(&child, 1, LayerTensor::K), whole(&parent, 2, LayerTensor::K).narrow(0, 0, 16));
    assert_eq!(whole(&child, 2, LayerTensor::Up), whole(&parent, 3, LayerTensor::Up).narrow(0, 0, 96));
    assert!(child.tensor(TensorName::Layer(2, LayerTensor::Q), Kind::Float).is_err());
    let text = "The capital of France is 12345 <s>";
    let (ours, parents) = (child.tokenizer().unwrap(), parent.tokenizer().unwrap());
    assert_eq!(ours.encode(text).unwrap(), parents.encode(text).unwrap());
    assert_eq!((ours.bos(), ours.eos()), (parents.bos(), parents.eos()));
}

#[test]
fn writes_query_rows_in_llama_cpps_order() {
    // W_gguf[h * hd + 2i + s] = W_hf[h * hd + s * hd/2 + i], read from the bytes of the file.
    let dir = tempfile::tempdir().unwrap();
    let parent = tiny();
    let written = export(&parent, &"4x128:-*3".parse().unwrap(), &Gguf, Some(Dtype::F32), dir.path()).unwrap();
    let bytes = fs::read(written).unwrap();
    let q = whole(&parent, 0, LayerTensor::Q);
    let row = |index: i64| {
        let weights: Vec<f32> = Vec::try_from(q.get(index)).unwrap();
        weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>()
    };
    let place = |index| {
        let row = row(index);
        bytes.windows(row.len()).position(|window| window == row).unwrap()
    };
    let first = place(16); // head 1, i = 0, s = 0
    assert_eq!(first % 4, 0);
    for (i, s) in [(0, 1), (1, 0), (3, 1), (7, 1)] {
        assert_eq!(place(16 + s * 8 + i), first + ((2 * i + s) * 64 * 4) as usize, "i {i} s {s}");
    }
}

#[test]
fn gguf_holds_as_many_bytes_as_the_cost_says() {
    let dir = tempfile::tempdir().unwrap();
    for genome in [
        "4x128*4",
        "0x64:-:2x0:0x96",
        "-:2x32*3",
        "E@8:4x128@4*2:2x96@8:4x128:H@q4_1",
        "4x128@q4_k*2:0x96@q6_k:-",
        "0x64@8:2x0@4:-:2x96@q5_0",
    ] {
        let genome: Genome = genome.parse().unwrap();
        let written = export(&tiny(), &genome, &Gguf, None, dir.path()).unwrap();
        let child = Checkpoint::open(&written).unwrap();
        let total = child.weight_bytes();
        assert_eq!(total, Cost::of(&tiny().config().shape, &genome).weight_bytes, "{genome}");
        let size = fs::metadata(&written).unwrap().len();
        assert!((total..total + 40_000).contains(&size), "{size} bytes of file for {total} of weights");
    }
}

#[test]
fn keeps_stretched_frequencies_through_gguf() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for (factor, low_freq_factor, high_freq_factor, original) in [(8.0, 1.0, 4.0, 8192), (4.0, 1.5, 3.0, 64)] {
        let scaling =
            Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings: original };
        let config = LlamaConfig { rope_scaling: Some(RopeScaling::Llama3(scaling)), ..tiny().config().clone() };
        let stretched = dir.path().join("hf");
        hf::write(
            &stretched,
            &config,
            &|name| tiny().tensor(name, Kind::Float),
            &tiny().tokenizer_files()?,
            config.dtype,
        )?;
        let parent = Checkpoint::open(&stretched)?;
        assert_eq!(parent.config().rope_scaling, Some(RopeScaling::Llama3(scaling)));
        let gguf = export(&parent, &config.genome, &Gguf, None, dir.path())?;
        let child = Checkpoint::open(gguf)?;
        assert_eq!(child.config().rope_scaling, Some(RopeScaling::Llama3(scaling)));
    }
    Ok(())
}

#[test]
fn refuses_to_export_over_the_parent_or_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let parent = tiny();
    for format in [&Hf as &dyn Exporter, &HfPadded] {
        let error = export(&parent, &parent.config().genome, format, None, parent.path()).unwrap_err().to_string();
        assert!(error.contains("another than what is read"), "{error}");
    }
    for format in EXPORTERS {
        for genome in ["3x64*4", "4x129*4", "4x128*3", "-*4", "4x100@8*4", "4x128@q2_k*4"] {
            let error = export(&parent, &genome.parse().unwrap(), format, None, &dir.path().join("o")).unwrap_err();
            assert!(error.to_string().contains("the genome does not fit the model"), "{error}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn reads_smollm2_from_gguf_and_writes_it_as_hf() -> Result<()> {
    let path = smollm2();
    let parent = Checkpoint::open(&path)?;
    let config = parent.config();
    assert_eq!(config.genome.to_string(), "9x1536*30");
    assert_eq!((config.shape.hidden, config.shape.group(), config.shape.vocab), (576, 3, 49152));
    assert!(config.shape.tied);
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.max_position_embeddings), (100000.0, 1e-5, 8192));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[2][..]));
    assert_eq!(config.dtype, Dtype::Quantized);
    let params: usize =
        config.tensors().iter().map(|&name| config.tensor_shape(name).unwrap().iter().product::<usize>()).sum();
    assert_eq!(params, 134_515_008);

    let expected = [504, 3575, 282, 4649, 314, 216, 33, 34, 35, 36, 37];
    assert_eq!(parent.tokenizer()?.encode("The capital of France is 12345")?, expected);
    assert!(!parent.tokenizer()?.adds_bos());

    let dir = tempfile::tempdir().unwrap();
    let two_layers: Genome = "9x1536*2:-*28".parse()?;
    let written = export(&parent, &two_layers, &Hf, None, &dir.path().join("hf"))?;
    let child = Checkpoint::open(&written)?;
    assert_eq!(child.config().dtype, Dtype::F32, "what was quantized is written in singles");
    for tensor in [LayerTensor::Q, LayerTensor::K, LayerTensor::Down] {
        assert_eq!(whole(&child, 1, tensor), whole(&parent, 1, tensor));
    }
    assert_eq!(child.tokenizer()?.digest(), parent.tokenizer()?.digest());

    // The tokenizer goes from GGUF to GGUF verbatim, and from the directory to an equal one.
    let verbatim = Checkpoint::open(export(&parent, &two_layers, &Gguf, None, dir.path())?)?;
    let rebuilt = export(&child, &"9x1536*2".parse()?, &Gguf, None, &dir.path().join("rebuilt.gguf"))?;
    let rebuilt = Checkpoint::open(rebuilt)?;
    for text in ["The capital of France is 12345", "  naïve\n\tfaçade 東京 🦙 don't", "<|im_start|>user\nHi<|im_end|>"]
    {
        let ids = parent.tokenizer()?.encode(text)?;
        assert_eq!(verbatim.tokenizer()?.encode(text)?, ids, "{text:?}");
        assert_eq!(rebuilt.tokenizer()?.encode(text)?, ids, "{text:?}");
    }
    Ok(())
}
