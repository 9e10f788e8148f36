"""Cross-certification with the bridge (個人認証BCA)."""
