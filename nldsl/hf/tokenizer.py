"""What a run reads text by, as a tokenizer of transformers: `AutoTokenizer.from_pretrained`.

Of bytes, token n is the byte n. A document ends with the byte 0, whose token is written as a
character that Unicode keeps out of texts, since transformers looks for the end of a text by its
spelling.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nldsl.train.data.baseline import BYTES
from nldsl.train.data.vocabulary import Tokenizer as Read
from nldsl.train.data.vocabulary import Vocabulary

END = "\ufdd0"


def tokenizer_of(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """It makes of a text the tokens that the run reads, and text of tokens; padding, where asked
    for, is the token that ends a document, and stands on the left.
    """
    if isinstance(vocabulary, Read):
        own = Tokenizer.from_str(vocabulary.content.decode())
    else:
        own = bytewise()
    end = own.id_to_token(vocabulary.boundary)
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        eos_token=end,
        pad_token=end,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def bytewise() -> Tokenizer:
    """A byte-level tokenizer without merges, whose tokens are the bytes themselves."""
    letters = letters_of_bytes()
    own = Tokenizer(models.BPE({END: 0, **{letters[n]: n for n in range(1, BYTES)}}, []))
    own.normalizer = normalizers.Replace("\0", END)
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.decoder = decoders.Sequence([decoders.Replace(END, letters[0]), decoders.ByteLevel()])
    own.add_special_tokens([AddedToken(END, normalized=True, special=True)])
    return own


def letters_of_bytes() -> list[str]:
    """The letter that a byte-level tokenizer writes each byte as: itself where it can be seen, the
    others, in their order, those from U+0100 on.
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [n for n in range(BYTES) if n not in seen]
    return [chr(n) if n in seen else chr(0x100 + hidden.index(n)) for n in range(BYTES)]
