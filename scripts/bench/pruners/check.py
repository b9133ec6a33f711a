"""Checks of the pruning methods on a tiny random LLaMA, each against a property that its paper states. Takes seconds.

    python3 scripts/bench/pruners/check.py
"""

import json
import pathlib
import tempfile
import unittest

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import activations
import flap
import gisp
import kept
import llm_pruner
import minitron
import parent
import shortgpt
import sleb
import slicegpt
import tune
import wanda_sp
from kept import Kept, Shape

LAYERS, GROUPS, MLP = 10, 2, 48


def tiny(**changes):
    config = dict(hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=GROUPS, head_dim=8,
                  intermediate_size=MLP, vocab_size=97, tie_word_embeddings=True, max_position_embeddings=64, initializer_range=0.2)
    model = LlamaForCausalLM(LlamaConfig(**{**config, **changes})).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data = 0.5 + torch.rand_like(weight)
    return model


class Pruners(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        parent.arithmetic("f32")
        self.model = tiny()
        self.shape = Shape.of(self.model.config)
        self.ids = torch.randint(97, (6, 24))

    def loss(self, model=None):
        logits = (model or self.model)(self.ids).logits
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).double(), self.ids[:, 1:].flatten()).item()

    def test_all_parameters_are_counted(self):
        params = sum(weight.numel() for weight in self.model.parameters())
        self.assertEqual(self.shape.params, params)
        self.assertEqual(Kept.all(self.shape).params(self.shape), params)

    def test_the_walk_computes_the_model(self):
        self.assertAlmostEqual(parent.loss(self.model, self.ids), self.loss(), places=5)

    def test_zeros_equal_a_physically_smaller_model(self):
        scores = torch.rand(LAYERS, GROUPS), torch.rand(LAYERS, MLP)
        chosen = kept.uniform(self.shape, *scores, (1, 30), range(LAYERS))
        biases = torch.randn(LAYERS, 32), torch.randn(LAYERS, 32)
        for biases in [None, biases]:
            biased = {"attention_bias": biases is not None, "mlp_bias": biases is not None}
            small = tiny(num_attention_heads=2, num_key_value_heads=1, intermediate_size=30, **biased)
            for name, weight in small.named_parameters():
                if ".layers." not in name or "norm" in name:
                    weight.data = self.model.get_parameter(name).clone()
            for place, (layer, whole) in enumerate(zip(small.model.layers, self.model.model.layers)):
                rows = kept.columns(self.shape, chosen.groups[place])
                heads = chosen.groups[place].repeat_interleave(8)
                channels = chosen.channels[place]
                for part, values in zip(parent.projections(layer), parent.projections(whole)):
                    values = values.weight
                    values = values[{8: heads, 16: rows, 30: channels}.get(part.out_features, slice(None))]
                    values = values[:, {16: rows, 30: channels}.get(part.in_features, slice(None))]
                    part.weight.data = values.clone()
                    if part.bias is not None:
                        part.bias.data = torch.zeros_like(part.bias)
                if biases is not None:
                    layer.self_attn.o_proj.bias.data, layer.mlp.down_proj.bias.data = biases[0][place], biases[1][place]
            ours = kept.network(self.model, chosen, biases)
            torch.testing.assert_close(ours(self.ids).logits, small(self.ids).logits, rtol=1e-4, atol=1e-4)
            counted = sum(weight.numel() for name, weight in small.named_parameters() if not name.endswith(".bias"))
            self.assertEqual(chosen.params(self.shape), counted)
            with kept.zeroed(self.model, chosen):
                self.assertEqual(biases is None, abs(self.loss() - self.loss(ours)) < 1e-5)

    def test_one_ranking_fills_the_size_and_spares_what_is_protected(self):
        groups, channels = torch.rand(LAYERS, GROUPS), torch.rand(LAYERS, MLP)
        channels[0] = torch.inf
        limit = int(0.7 * self.shape.params)
        chosen = kept.drop_least(self.shape, Kept.all(self.shape), groups, channels, limit)
        self.assertTrue(limit - self.shape.channel < chosen.params(self.shape) <= limit)
        self.assertTrue(chosen.channels[0].all())

    def test_all_methods_keep_to_the_size(self):
        sizes = [0.8, 0.7]
        for method in [flap, wanda_sp, minitron, llm_pruner, gisp, slicegpt]:
            ids = self.ids.repeat(8, 1)
            if method is gisp:
                found = list(gisp.prune(self.model, ids, sizes, windows=4))
            else:
                found = list(method.prune(self.model, ids, sizes))
            self.assertEqual([size for size, _ in found], sizes)
            for size, pruned in found:
                share = pruned.params(self.model) / self.shape.params
                self.assertTrue(size - 0.05 < share <= size, f"{method.__name__}: {share} of {size}")

    def test_a_written_network_is_what_was_chosen(self):
        _, pruned = next(iter(flap.prune(self.model, self.ids, [0.7])))
        with tempfile.TemporaryDirectory() as out:
            pruned.write(self.model, "no tokenizer", out)
            again = LlamaForCausalLM.from_pretrained(out).eval()
            self.assertTrue(json.loads(pathlib.Path(out, "config.json").read_text())["mlp_bias"])
        expected = kept.network(self.model, pruned.kept, pruned.biases)
        torch.testing.assert_close(again(self.ids).logits, expected(self.ids).logits)

    def test_training_comes_nearer_to_the_parent_and_leaves_what_is_gone_gone(self):
        for method in [flap, minitron]:
            _, pruned = next(iter(method.prune(self.model, self.ids.repeat(8, 1), [0.7])))
            network = kept.network(self.model, pruned.kept, pruned.biases)
            gone = {name: weight == 0 for name, weight in network.named_parameters()}
            self.assertTrue(any(mask.any() for mask in gone.values()))
            losses = tune.train(network, tune.Teacher(self.model), self.ids, steps=30)
            self.assertLess(losses[-1], losses[0])
            for name, weight in network.named_parameters():
                self.assertTrue(torch.equal(weight == 0, gone[name]), name)

    def test_kept_lessons_are_the_parents(self):
        network = lambda: kept.network(self.model, Kept.all(self.shape))
        expected = tune.train(network(), tune.Teacher(self.model), self.ids, steps=3)
        with tempfile.TemporaryDirectory() as out:
            lessons = pathlib.Path(out, "lessons")
            self.assertEqual(tune.train(network(), tune.Teacher(self.model, lessons), self.ids, steps=3), expected)
            self.assertEqual(tune.train(network(), tune.Teacher(None, lessons), self.ids, steps=3), expected)

    def test_shortgpt_influence_is_one_minus_the_cosine(self):
        hidden = self.model(self.ids, output_hidden_states=True).hidden_states
        states = []
        handle = self.model.model.layers[3].register_forward_hook(lambda _, inputs, out: states.extend([inputs[0], out]))
        self.model(self.ids)
        handle.remove()
        cosines = (states[0] * states[1]).sum(-1) / states[0].norm(dim=-1) / states[1].norm(dim=-1)
        self.assertAlmostEqual(shortgpt.influences(self.model, self.ids)[3].item(), 1 - cosines.mean().item(), places=5)
        torch.testing.assert_close(states[0], hidden[3])

    def test_sleb_drops_the_layer_without_which_the_loss_is_least(self):
        found = dict(sleb.prune(self.model, self.ids, [0.9, 0.8]))
        dropped = found[0.8].settings["dropped"]
        self.assertEqual(dropped[: len(found[0.9].settings["dropped"])], found[0.9].settings["dropped"])
        for count in range(len(dropped)):
            losses = {}
            for layer in set(range(1, LAYERS - 1)) - set(dropped[:count]):
                without = shortgpt.without(self.shape, [*dropped[:count], layer])
                losses[layer] = self.loss(kept.network(self.model, without))
            self.assertEqual(dropped[count], min(losses, key=losses.get))

    def test_gisp_importance_is_the_change_of_the_loss_to_first_order(self):
        parent.gradients(self.model, self.ids)
        layer = self.model.model.layers[4]
        groups, channels = gisp.layer_importances(layer, self.shape, "signed")
        absolute = gisp.layer_importances(layer, self.shape, "absolute")
        self.model.requires_grad_(False)
        self.model.double()
        q, k, v, o, gate, up, down = [part.weight for part in parent.projections(layer)]
        group = [q[16:], k[8:], v[8:], o[:, 16:]]  # the second one
        channel = [gate[7], up[7], down[:, 7]]
        for weights, importance, bound in [(group, groups[1], absolute[0][1]), (channel, channels[7], absolute[1][7])]:
            losses = []
            for scale in [1 - 1e-3, (1 + 1e-3) / (1 - 1e-3)]:
                for weight in weights:
                    weight.mul_(scale)
                losses.append(self.loss())
            for weight in weights:
                weight.div_(1 + 1e-3)
            slope = abs(losses[1] - losses[0]) / 2e-3
            self.assertAlmostEqual(slope / importance.item(), 1, places=2)
            self.assertGreaterEqual(bound, importance)

    def test_flap_keeps_the_mean_output(self):
        layer = self.model.model.layers[0]
        hidden = parent.embedded(self.model, self.ids)
        means = {}
        for name, model in [("whole", self.model), ("pruned", None)]:
            if model is None:
                _, pruned = next(iter(flap.prune(self.model, self.ids, [0.7])))
                self.assertFalse(pruned.kept.channels[0].all())
                # The attention of the parent, so that both see the same input of the MLP.
                pruned.kept.groups[0] = True
                pruned.biases[0][0] = 0
                model = kept.network(self.model, pruned.kept, pruned.biases)
            part = model.model.layers[0]
            means[name] = parent.through(model, part, hidden).mean((0, 1))
        torch.testing.assert_close(means["whole"], means["pruned"], rtol=1e-4, atol=1e-5)
        into_o, _, _ = activations.layer_moments(self.model, layer, hidden)
        dropped = torch.arange(32) < 16
        bias = layer.self_attn.o_proj.weight.double() @ (into_o.mean * dropped)
        seen = []
        with parent.watching({layer.self_attn.o_proj: seen.append}):
            self.model(self.ids)
        inputs = seen[0].double().flatten(0, 1)
        weight = layer.self_attn.o_proj.weight.double()
        torch.testing.assert_close((inputs @ weight.T).mean(0), ((inputs * ~dropped) @ weight.T + bias).mean(0))

    def test_wanda_scores_are_mean_weight_times_rms(self):
        layer = self.model.model.layers[0]
        seen = []
        with parent.watching({layer.mlp.down_proj: seen.append}):
            self.model(self.ids)
        _, into_down, _ = activations.layer_moments(self.model, layer, parent.embedded(self.model, self.ids))
        expected = layer.mlp.down_proj.weight.abs().mean(0) * seen[0].flatten(0, 1).square().mean(0).sqrt()
        torch.testing.assert_close(wanda_sp.score(layer.mlp.down_proj, into_down).float(), expected)

    def test_minitron_head_importance_is_the_norm_of_its_output(self):
        layer = self.model.model.layers[0]
        seen = []
        with parent.watching({layer.self_attn.o_proj: seen.append}):
            self.model(self.ids)
        into_o, _, _ = activations.layer_moments(self.model, layer, parent.embedded(self.model, self.ids))
        expected = torch.stack([seen[0][..., 8 * head : 8 * head + 8].norm(dim=-1).mean(1).norm() for head in range(4)])
        torch.testing.assert_close(into_o.batch_l2.sqrt().float(), expected)

    def test_slicegpt_without_slicing_changes_nothing(self):
        whole = slicegpt.sliced(self.model, self.ids, 32)
        torch.testing.assert_close(whole(self.ids), self.model(self.ids).logits, rtol=1e-3, atol=1e-3)
        for width in [32, 20]:
            found = sum(weight.numel() for weight in slicegpt.SlicedLlama(self.model.config, width).parameters())
            self.assertEqual(found, slicegpt.params(self.shape, width))

    def test_slicegpt_is_the_parent_with_projections_of_its_residual_stream(self):
        """Before every block the stream is projected onto the block's basis; what enters the head is not."""
        network = slicegpt.sliced(self.model, self.ids, 20)
        basis = network.rotation.weight.T
        hidden = parent.embedded(self.model, self.ids) @ basis @ basis.T
        positions = torch.arange(24)[None]
        rotary = self.model.model.rotary_emb(hidden, position_ids=positions)
        for layer, sliced_layer in zip(self.model.model.layers, network.layers):
            # A basis is read off the matrix that was rotated into it.
            normed = layer.input_layernorm(hidden)
            hidden = hidden + layer.self_attn(normed, position_embeddings=rotary, attention_mask=None)[0]
            following = torch.linalg.lstsq(layer.self_attn.o_proj.weight.T, sliced_layer.o.weight.T).solution
            hidden = hidden @ following @ following.T
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            following = torch.linalg.lstsq(layer.mlp.down_proj.weight.T, sliced_layer.down.weight.T).solution
            hidden = hidden @ following @ following.T
        logits = self.model.lm_head(self.model.model.norm(hidden))
        torch.testing.assert_close(network(self.ids), logits, rtol=1e-2, atol=1e-2)


if __name__ == "__main__":
    torch.set_num_threads(2)
    unittest.main()
