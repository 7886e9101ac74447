"""The vocabulary of one GGUF file for another."""

import gguf


def vocabulary(writer: gguf.GGUFWriter, source: str) -> int:
    fields = gguf.GGUFReader(source).fields
    texts = lambda key: [bytes(fields[key].parts[at]).decode() for at in fields[key].data]
    tokens = texts("tokenizer.ggml.tokens")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(fields["tokenizer.ggml.token_type"].parts[at][0]) for at in fields["tokenizer.ggml.token_type"].data])
    writer.add_token_merges(texts("tokenizer.ggml.merges"))
    writer.add_eos_token_id(int(fields["tokenizer.ggml.eos_token_id"].parts[-1][0]))
    writer.add_chat_template(texts("tokenizer.chat_template")[0])
    return len(tokens)
