"""Any Hugging Face vision-language or language model: loading, processors, conversation to tokens, adapters and experts.

Needs torch, transformers and peft, never Ray or pydantic.
"""
