"""Makes tests/goldens/tiny-llama/gradients.safetensors: PyTorch's losses and gradients of small networks inside tiny-llama.

    python3 tests/goldens/make_tiny_gradients.py [OUT]      # needs torch, transformers, safetensors

Everything is float32 on the CPU, the bfloat16 weights widened. Two documents are packed as one sequence: positions begin
again at 0 in each, and attention stays inside a document. Four cases:

    full     the parent; mean cross entropy in nats over the scored tokens; all weights are trained
    narrow   the same loss of the genome 4x128:2x64:0x96:4x0, whose weights are prefixes of the parent's
    lora     the same loss of 2x128:4x32:4x128:2x96 with W x + (alpha / r) B A x on all seven matrices; only A (r, in) and
             B (out, r) are trained, and a narrow matrix has the prefix of their columns and rows
    kl       the mean of KL(parent || network of `narrow`) in nats at the positions that predict the scored tokens

Tensors of the file:

    tokens.0, tokens.1                                  int64, the documents
    CASE.loss                                           a scalar
    CASE.grad.NAME                                      as large as the parent's tensor NAME, zero outside the prefix
    lora.input.MODULE.lora_A, lora.input.MODULE.lora_B
    lora.grad.MODULE.lora_A, lora.grad.MODULE.lora_B    MODULE such as model.layers.0.self_attn.q_proj

The norms, the embedding and the head are there for every case, the seven matrices only for the layers of `CASES`: a layer's
error would reach all below it. The metadata has one entry, `golden`: versions, genomes, rank, alpha, and each document's first
scored token.

Before anything is written, every gradient is computed again by transformers' LlamaForCausalLM on each document alone, a narrow
network as the parent with zeros in the columns of o_proj and down_proj that read what it lacks. Both round alike; the same
sums in float64 differ by up to 4e-5 in an element and 2e-5 of a tensor's norm, which is what another order of sums may differ by.
"""

import json
import pathlib
import platform
import sys

import safetensors
import safetensors.torch
import torch
import transformers

TINY = pathlib.Path(__file__).parent / "tiny-llama"
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else TINY / "gradients.safetensors"

LENGTHS = [37, 21]
FIRST_SCORED = [1, 8]  # all that the first document predicts; an answer of 13 tokens in the second
RANK, ALPHA = 3, 6.0
CASES = {
    "full": {"genome": "4x128:4x128:4x128:4x128", "matrices_of_layers": [0, 3]},
    "narrow": {"genome": "4x128:2x64:0x96:4x0", "matrices_of_layers": [1, 2, 3]},
    "lora": {"genome": "2x128:4x32:4x128:2x96", "matrices_of_layers": [0, 1, 2, 3], "rank": RANK, "alpha": ALPHA},
    "kl": {"genome": "4x128:2x64:0x96:4x0", "matrices_of_layers": [1, 2]},
}
TOLERANCE = 1e-5  # of the largest gradient of a tensor, or of 1 where that is less

CONFIG = transformers.LlamaConfig.from_pretrained(TINY)
GROUP = CONFIG.num_attention_heads // CONFIG.num_key_value_heads
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def genes(genome):
    """(query heads, MLP width) of every layer."""
    return [tuple(int(number) for number in gene.split("x")) for gene in genome.split(":")]


def kept(gene):
    """{matrix of a layer: (rows, columns) that stay}, for the halves that a layer has."""
    heads, width = gene
    query, value = heads * CONFIG.head_dim, heads // GROUP * CONFIG.head_dim
    hidden = CONFIG.hidden_size
    attention = zip(ATTENTION, [(query, hidden), (value, hidden), (value, hidden), (hidden, query)])
    mlp = zip(MLP, [(width, hidden), (width, hidden), (hidden, width)])
    return dict(attention if heads else []) | dict(mlp if width else [])


def module(layer, matrix):
    return f"model.layers.{layer}.{'self_attn' if matrix in ATTENTION else 'mlp'}.{matrix}"


class Network:
    """A subnet whose weights are slices of the parent's, so that gradients arrive in the parent's tensors."""

    def __init__(self, weights, genome, adapters=None):
        """`adapters` is {MODULE: (A (r, in), B (out, r))}."""
        self.weights, self.genes, self.adapters = weights, genes(genome), adapters or {}

    def project(self, x, layer, matrix):
        """(t, in) to (t, out)."""
        rows, columns = kept(self.genes[layer])[matrix]
        name = module(layer, matrix)
        out = x @ self.weights[f"{name}.weight"][:rows, :columns].T
        if name in self.adapters:
            a, b = self.adapters[name]
            out = out + ALPHA / RANK * (x @ a[:, :columns].T) @ b[:rows].T
        return out

    def norm(self, x, name):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG.rms_norm_eps)
        return self.weights[f"{name}.weight"] * (x * scale)

    def attention(self, x, layer, heads, angles, mask):
        """(t, d) to (t, d)."""
        by_head = lambda of: of.view(len(x), -1, CONFIG.head_dim).transpose(0, 1)  # (h, t, e)
        query = rotate(by_head(self.project(x, layer, "q_proj")), angles)
        key = rotate(by_head(self.project(x, layer, "k_proj")), angles).repeat_interleave(GROUP, 0)
        value = by_head(self.project(x, layer, "v_proj")).repeat_interleave(GROUP, 0)
        scores = query @ key.transpose(1, 2) / CONFIG.head_dim**0.5  # (h, t, t)
        context = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value  # (h, t, e)
        return self.project(context.transpose(0, 1).reshape(len(x), -1), layer, "o_proj")

    def mlp(self, x, layer):
        gate = torch.nn.functional.silu(self.project(x, layer, "gate_proj"))
        return self.project(gate * self.project(x, layer, "up_proj"), layer, "down_proj")

    def log_probs(self, documents):
        """Of every token after every token: (t, v)."""
        tokens = torch.cat(documents)
        document = torch.cat([torch.full((len(one),), place) for place, one in enumerate(documents)])
        position = torch.cat([torch.arange(len(one)) for one in documents])
        mask = (document[:, None] == document) & (position[:, None] >= position)  # (t, t)
        frequency = 1.0 / CONFIG.rope_parameters["rope_theta"] ** (torch.arange(0, CONFIG.head_dim, 2).float() / CONFIG.head_dim)
        angles = (position[:, None] * frequency).repeat(1, 2)  # (t, e)
        hidden = self.weights["model.embed_tokens.weight"][tokens]
        for layer, (heads, width) in enumerate(self.genes):
            if heads:
                normed = self.norm(hidden, f"model.layers.{layer}.input_layernorm")
                hidden = hidden + self.attention(normed, layer, heads, angles, mask)
            if width:
                hidden = hidden + self.mlp(self.norm(hidden, f"model.layers.{layer}.post_attention_layernorm"), layer)
        return (self.norm(hidden, "model.norm") @ self.weights["lm_head.weight"].T).log_softmax(-1)


def rotate(x, angles):
    """Rotary embedding of HF checkpoints: (h, t, e) to (h, t, e)."""
    low, high = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-high, low], -1) * angles.sin()


def scored(log_probs, documents):
    """Rows that predict scored tokens (n, v), and those tokens (n)."""
    rows, tokens, start = [], [], 0
    for document, first in zip(documents, FIRST_SCORED, strict=True):
        rows.append(log_probs[start + first - 1 : start + len(document) - 1])
        tokens.append(document[first:])
        start += len(document)
    return torch.cat(rows), torch.cat(tokens)


def loss_of(log_probs, documents, teacher=None):
    """Mean cross entropy, or the mean divergence KL(teacher || network), nats."""
    rows, tokens = scored(log_probs, documents)
    if teacher is None:
        return -rows.gather(1, tokens[:, None]).mean()
    parent, _ = scored(teacher, documents)
    return (parent.exp() * (parent - rows)).sum(-1).mean()


def gradients(loss, trained):
    """Zeros where the loss does not depend on a tensor."""
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return {name: torch.zeros_like(tensor) if grad is None else grad for (name, tensor), grad in zip(trained.items(), found)}


def transformers_log_probs(weights, documents, adapters=None):
    """transformers on each document alone, and the parameters of its model."""
    config = transformers.LlamaConfig.from_pretrained(TINY, attn_implementation="eager", dtype=torch.float32)
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict(weights)
    for name, (a, b) in (adapters or {}).items():
        add = lambda module, inputs, out, a=a, b=b: out + ALPHA / RANK * (inputs[0] @ a.T) @ b.T
        model.get_submodule(name).register_forward_hook(add)
    log_probs = [model(document[None]).logits[0].log_softmax(-1) for document in documents]
    return torch.cat(log_probs), dict(model.named_parameters())


@torch.no_grad()
def cut(tensors, genome):
    """A copy with zeros in the columns of o_proj and down_proj, and of their A, that read what a genome lacks."""
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for layer, gene in enumerate(genes(genome)):
        for matrix in ["o_proj", "down_proj"]:
            _, columns = kept(gene).get(matrix, (0, 0))
            for name in {f"{module(layer, matrix)}.{kind}" for kind in ["weight", "lora_A"]} & tensors.keys():
                tensors[name][:, columns:] = 0
    return tensors


def check(case, genome, documents, weights, trained, loss, found):
    """Exits unless transformers has the same loss and gradients."""
    teacher, _ = transformers_log_probs(weights, documents)
    leaves = {name: tensor.requires_grad_() for name, tensor in cut(trained, genome).items()}
    log_probs, parameters = transformers_log_probs(cut(weights, genome), documents, pairs(leaves))
    theirs_loss = loss_of(log_probs, documents, teacher.detach() if case == "kl" else None)
    theirs = cut(gradients(theirs_loss, leaves if case == "lora" else parameters), genome)
    assert theirs.keys() == found.keys(), theirs.keys() ^ found.keys()
    largest = {name: (found[name] - grad).abs().max() / max(1.0, grad.abs().max()) for name, grad in theirs.items()}
    worst = max(largest, key=largest.get)
    print(f"{case}: loss {loss:.6f}, in transformers {theirs_loss:.6f}; gradients differ by up to {largest[worst]:.1e}, in {worst}")
    if largest[worst] > TOLERANCE or abs(loss - theirs_loss) > TOLERANCE:
        sys.exit(f"{case}: transformers computes something else; nothing was written")


def make_adapters():
    """{MODULE.lora_A: (r, in), MODULE.lora_B: (out, r)}, as large as the parent's matrices, neither of them zero."""
    tensors = {}
    for layer in range(CONFIG.num_hidden_layers):
        for matrix, (rows, columns) in kept((CONFIG.num_attention_heads, CONFIG.intermediate_size)).items():
            tensors[f"{module(layer, matrix)}.lora_A"] = torch.randn(RANK, columns) / columns**0.5
            tensors[f"{module(layer, matrix)}.lora_B"] = 0.3 * torch.randn(rows, RANK)
    return tensors


def pairs(tensors):
    """{MODULE: (A, B)} of the adapters among these tensors."""
    modules = [name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")]
    return {name: (tensors[f"{name}.lora_A"], tensors[f"{name}.lora_B"]) for name in modules}


def stored(case, name):
    """Whether a gradient is in the file: matrices of some layers only."""
    parts = name.split(".")
    return "_proj" not in name or int(parts[2]) in CASES[case]["matrices_of_layers"]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(20240531)
    weights = {name: weight.float() for name, weight in safetensors.torch.load_file(TINY / "model.safetensors").items()}
    documents = [torch.randint(0, CONFIG.vocab_size, (length,)) for length in LENGTHS]
    adapters = make_adapters()
    tensors = {f"tokens.{place}": document for place, document in enumerate(documents)}
    tensors |= {f"lora.input.{name}": tensor for name, tensor in adapters.items()}

    teacher = Network(weights, CASES["full"]["genome"]).log_probs(documents)
    for case, settings in CASES.items():
        trained = {name: tensor.clone().requires_grad_() for name, tensor in (adapters if case == "lora" else weights).items()}
        network = Network(weights | trained, settings["genome"], pairs(trained))
        loss = loss_of(network.log_probs(documents), documents, teacher if case == "kl" else None)
        found = gradients(loss, trained)
        check(case, settings["genome"], documents, weights, trained, loss, found)
        tensors[f"{case}.loss"] = loss.detach()
        tensors |= {f"{case}.grad.{name}": grad for name, grad in found.items() if stored(case, name)}

    versions = {"transformers": transformers.__version__, "torch": torch.__version__, "safetensors": safetensors.__version__}
    made_by = versions | {"python": platform.python_version(), "device": "cpu", "dtype": "float32"}
    golden = {"made_by": made_by, "first_scored": FIRST_SCORED, "cases": CASES}
    # One entry: the writer keeps no order among several, and the same bytes should come out again.
    safetensors.torch.save_file(tensors, OUT, metadata={"golden": json.dumps(golden)})
    print(OUT, OUT.stat().st_size, "bytes")


main()
