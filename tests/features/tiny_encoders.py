"""Tiny speech encoders with random parameters, which the tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(family: str, where: Path, seed: int = 0) -> Path:
    """Write a tiny encoder of a family, its parameters drawn at random."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any
        if family == "whisper":
            tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
            model = transformers.WhisperModel(transformers.WhisperConfig(
                d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=50, **tokens))
            prepare = transformers.WhisperFeatureExtractor(feature_size=80)
        else:
            config, kind = {
                "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
                "hubert": (transformers.HubertConfig, transformers.HubertModel),
                "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
            }[family]
            model = kind(config(
                hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
                conv_kernel=(10, 8), conv_stride=(20, 16), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2, vocab_size=50))
            prepare = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    model.save_pretrained(where)
    prepare.save_pretrained(where)
    return where
