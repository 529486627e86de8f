"""Measures of text models: bounds, quality, variety, and what they cost."""

from unisono_text.measure.variety import distinct_n, self_bleu, unigram_entropy

__all__ = ["distinct_n", "self_bleu", "unigram_entropy"]
