"""A LLaMA whose layers differ: per-layer head counts and MLP widths, layers without attention or without MLP.

Written by criadero beside the weights; load with `trust_remote_code=True` (transformers 4.57 and 5).
"""

import copy

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


class CriaderoConfig(LlamaConfig):
    """The family's configuration with three lists, one value a layer; the scalar fields are the widest layer's."""

    model_type = "criadero_llama"

    def __init__(self, layer_num_attention_heads=(), layer_num_key_value_heads=(), layer_intermediate_size=(), **kwargs):
        self.layer_num_attention_heads = list(layer_num_attention_heads)
        self.layer_num_key_value_heads = list(layer_num_key_value_heads)
        self.layer_intermediate_size = list(layer_intermediate_size)
        # transformers from 5.14 on has `per_layer_config` too, and asks before it gives out a scalar that layers override.
        super().__init__(**{"allow_global_per_layer_attribute_access": True, **kwargs})

    def validate(self):  # transformers 5 refuses head counts that do not divide the hidden size
        pass

    def layer(self, index):
        """One layer's configuration. A half that is not there is built at width one and then removed."""
        config = copy.copy(self)
        config.__dict__.pop("_heterogeneity_spec", None)
        config.num_attention_heads = max(1, self.layer_num_attention_heads[index])
        config.num_key_value_heads = max(1, self.layer_num_key_value_heads[index])
        config.intermediate_size = max(1, self.layer_intermediate_size[index])
        if getattr(self, "layer_types", None):  # asked by a place in the cache, which counts layers with attention
            config.layer_types = [self.layer_types[index]] * self.num_hidden_layers
        return config


class CriaderoDecoderLayer(LlamaDecoderLayer):
    def __init__(self, config, index):
        # Layers with attention share the cache without gaps, so that its first entry tells how long it is.
        cached = sum(heads > 0 for heads in config.layer_num_attention_heads[:index])
        super().__init__(config.layer(index), cached)
        if config.layer_num_attention_heads[index] == 0:
            self.self_attn = self.input_layernorm = None
        if config.layer_intermediate_size[index] == 0:
            self.mlp = self.post_attention_layernorm = None

    def forward(self, hidden_states, **kwargs):
        if self.self_attn is not None:
            hidden_states = hidden_states + self.self_attn(self.input_layernorm(hidden_states), **kwargs)[0]
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states


def without_layers(config):
    """What the family's own classes are built from, before layers of their own sizes take their places."""
    config = copy.copy(config)
    config.__dict__.pop("_heterogeneity_spec", None)
    config.num_hidden_layers = 0
    return config


class CriaderoModel(LlamaModel):
    config_class = CriaderoConfig

    def __init__(self, config):
        super().__init__(without_layers(config))
        config._attn_implementation = self.config._attn_implementation  # chosen just now
        self.config = config
        self.layers = nn.ModuleList(CriaderoDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.post_init()


class CriaderoForCausalLM(LlamaForCausalLM):
    config_class = CriaderoConfig

    def __init__(self, config):
        super().__init__(without_layers(config))
        config._attn_implementation = self.config._attn_implementation  # chosen just now
        self.config = config
        self.model = CriaderoModel(config)
        self.post_init()

    def generate(self, *args, **kwargs):
        # The cache has places for layers with attention alone, and asks layers by their number which of them has a window.
        if len(set(getattr(self.config, "layer_types", None) or ())) > 1 and 0 in self.config.layer_num_attention_heads:
            kwargs["use_cache"] = False
        return super().generate(*args, **kwargs)
