"""Chapter *evidence*: do trained models paint as the theory says?"""
