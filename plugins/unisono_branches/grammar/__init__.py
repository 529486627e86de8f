"""Grammar: tags that open branches, who sees whom by them, and what may come next."""
