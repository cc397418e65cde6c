"""Everything that makes pictures, behind one small contract."""
