"""Scoring of recognizers, and reports on it."""
