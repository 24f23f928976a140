"""Tests, found by Scipion's own runner, by unittest and by pytest."""
