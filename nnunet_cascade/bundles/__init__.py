"""Bundles: trained models with their settings, packed, checked, trusted or refused."""
