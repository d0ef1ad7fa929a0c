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


def save_text(where: Path, seed: int = 0, family: str = "bert") -> Path:
    """Write a tiny text encoder, its parameters drawn at random, whose tokens are the letters of ASCII."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(chr, range(33, 127))]
    letters = Tokenizer(models.WordLevel({token: k for k, token in enumerate(tokens)}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]",
                                                           special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any
        if family == "bert":
            model = transformers.BertModel(transformers.BertConfig(
                vocab_size=len(tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=64))
        else:
            model = transformers.T5EncoderModel(transformers.T5Config(
                vocab_size=len(tokens), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
    model.save_pretrained(where)
    transformers.PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="[PAD]", unk_token="[UNK]",
                                         cls_token="[CLS]", sep_token="[SEP]").save_pretrained(where)
    return where
