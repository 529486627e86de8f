"""The tutor of StarGANv2-VC: pitch and letters, heard from mels."""
